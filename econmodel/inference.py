"""How fast a group of chips prefills and decodes, what fits, and what it serves: a roofline with the losses named."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from econmodel.parts import (
    LAYOUTS,
    Accelerator,
    Llm,
    Mlp,
    _entries,
    _entry_bytes,
    params_by_use,
    state_bytes,
)
from econmodel.units import count, non_negative, positive


@dataclass(frozen=True, kw_only=True)
class Engine:
    """
    Serving software on real chips: the losses between a roofline and a measurement, one constant each.

    The defaults are fitted to engines since 2025 by `tests/calibrate.py`, except where they are said to be
    assumed; their intervals are rows of `data/inference_constants.csv`.

    Parameters
    ----------
    compute : float
        Share of the best measured matrix product that the products of a step reach.
    four_bit : float
        Further share at four bits, where scaling blocks and activations cost more than the product saves.
    expert_width : float
        Inner size of an expert, per chip, at which its product reaches half of that rate.
    attention : float
        Share of the best measured matrix product at 16 bits that attention reaches over a prompt.
    bandwidth, cache : float
        Share of memory bandwidth that reading weights, and reading the KV cache, reaches.
    link : float
        Share of the link's bandwidth that all-reduce and all-to-all reach.
    hop_s : float
        Latency of one of them (assumed). [s]
    layer_s, latent_s : float
        Time of a layer that no arithmetic explains: kernels that start, synchronise and are too small to fill the
        chip; and what the further projections of latent attention add. [s]
    pace : float
        Both, relative to the mean of engines.
    stream_s : float
        Work of the host per sequence and step, beside the chip's, when tokens are streamed to clients. [s]
    request_s : float
        Time until a request reaches the scheduler. [s]
    bunching : float
        Prompts that arrive together, in units of the square root of the number in service.
    deferral : float
        Share of the prefill of others that a request bears before its first token rather than between tokens: 0
        where running answers wait (assumed), above where new prompts go first.
    reserve_bytes : float
        Memory per chip that neither weights nor cache can use. [B]
    usable : float
        Share of the rest that the engine gives to the cache (assumed).
    max_sequences : float
        Most sequences that a scheduler runs at once (assumed); a group has one, or one per chip where attention is
        copied. [sequence]
    chunk_tokens : float
        Most tokens of prompts that a scheduler puts into a step (assumed). [token]
    tile : float
        Rows that a matrix product over the tokens of one expert is rounded up to (assumed). [token]
    sustained : float
        Share of the rated peak of a matrix product on a chip where nobody measured it (assumed: the median of the
        others).
    flop_per_joule : float
        Most arithmetic at 16 bits that such a chip's rated power pays for (assumed: the median of the others).
        [FLOP/J]

    Raises
    ------
    ValueError
        A share outside 0 to 1, another constant below 0.

    Examples
    --------
    >>> ROOFLINE.layer_s, ROOFLINE.compute
    (0.0, 1.0)
    """

    compute: float = 0.784
    four_bit: float = 0.576
    expert_width: float = 681.0
    attention: float = 0.788
    bandwidth: float = 0.976
    cache: float = 0.844
    link: float = 0.465
    hop_s: float = 2e-6
    layer_s: float = 70.2e-6
    latent_s: float = 28.3e-6
    pace: float = 1.0
    stream_s: float = 50.8e-6
    request_s: float = 22.4e-3
    bunching: float = 0.755
    deferral: float = 0.0
    reserve_bytes: float = 1.86e9
    usable: float = 0.9
    max_sequences: float = 1024.0
    chunk_tokens: float = 8192.0
    tile: float = 64.0
    sustained: float = 0.76
    flop_per_joule: float = 1.13e12

    def __post_init__(self):
        """Check what was given."""
        shares = {"compute", "four_bit", "attention", "bandwidth", "cache", "link", "deferral", "usable", "sustained"}
        for name in self.__dataclass_fields__:
            non_negative(getattr(self, name), name)
            if name in shares and getattr(self, name) > 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not allowed: a share between 0 and 1")


#: No losses at all, as in the textbook roofline; the `link_share` of a chip stays.
ROOFLINE = Engine(
    compute=1.0, four_bit=1.0, expert_width=0.0, attention=1.0, bandwidth=1.0, cache=1.0, link=1.0, hop_s=0.0,
    layer_s=0.0, latent_s=0.0, stream_s=0.0, request_s=0.0, bunching=0.0,
    reserve_bytes=0.0, usable=0.9, tile=0.0, sustained=1.0,
    flop_per_joule=np.inf,
)  # fmt: skip


#: Engines that are told apart, recent ones by their pace and by who waits for prompts, and those of 2024.
ENGINES = {
    "TensorRT-LLM": Engine(pace=0.893),
    "vLLM": Engine(pace=1.06),
    "SGLang": Engine(pace=1.06, deferral=0.43),
    "TensorRT-LLM 2024": Engine(compute=0.786, cache=0.767, pace=1.76, reserve_bytes=6.44e9),
}


class _Group(NamedTuple):
    """A model on a group of chips, checked, with what all formulas need."""

    llm: Llm
    chip: Accelerator
    engine: Engine
    layout: str
    n: np.ndarray
    kv_bits: np.ndarray
    mixing: int
    blocks: int
    routed: Mlp | None
    held_bytes: np.ndarray
    read_bytes: np.ndarray
    expert_bytes: np.ndarray
    token_time: np.ndarray
    head_time: float
    expert_time: np.ndarray
    attention_rate: float


def _group(llm, accelerator, engine, layout, n_accelerators, weight_bits, kv_bits):
    if layout not in LAYOUTS:
        raise ValueError(f"layout = {layout!r} is not allowed: one of {', '.join(LAYOUTS)}, or None")
    bits, e, use = positive(weight_bits, "weight_bits"), engine or Engine(), params_by_use(llm)
    routed = next((m for m in llm.mlp if m.experts > 1), None)
    if kv_bits is None:
        kv_bits = 16.0 if routed else np.clip(bits, 8.0, 16.0)
    mixing = sum(a.layers for a in llm.attention if a.stride == 1) + (llm.recurrent.layers if llm.recurrent else 0)
    wide, eight, four = _peaks(accelerator, e)
    rate = np.where(bits > 8, wide, np.where(bits > 4, eight, four))
    # experts at four bits leave the projections of attention at 16
    kept = (bits < 8) & (routed is not None)
    head = (llm.vocab or 0) * (llm.hidden_size or 0)
    body = use.attention * np.where(kept, 2.0, bits / 8) + use.other * bits / 8
    return _Group(
        llm=llm, chip=accelerator, engine=e, layout=layout, n=count(n_accelerators, "n_accelerators", least=1),
        kv_bits=positive(kv_bits, "kv_bits"), mixing=mixing, routed=routed,
        blocks=min(mixing, sum(m.layers for m in llm.mlp)) if llm.mlp else mixing,
        held_bytes=body + 2 * use.embedding, read_bytes=body + 2 * head, expert_bytes=use.routed * bits / 8,
        token_time=2 * (use.attention / np.where(kept, wide, rate) + use.other / rate),
        head_time=2 * head / wide, expert_time=2 * use.routed / rate, attention_rate=wide / e.compute * e.attention,
    )  # fmt: skip


def _peaks(chip, e):
    """Rates that matrix products reach at 16, 8 and 4 bits; the next wider one where the chip lacks it."""
    shares = {}
    for name in ("bf16", "fp8"):
        measured, rated = getattr(chip, f"{name}_measured_flop_per_s"), getattr(chip, f"{name}_flop_per_s")
        shares[name] = None if measured is None or e.sustained == 1 else measured / rated
    known = shares["bf16"] or shares["fp8"]
    if known is None:
        rated = chip.bf16_flop_per_s or (chip.fp8_flop_per_s or 0.0) / 2
        paid = chip.power_w * e.flop_per_joule / rated if chip.power_w and rated else np.inf
        known = min(e.sustained, paid)
    wide = (chip.bf16_flop_per_s or chip.fp8_flop_per_s or np.inf) * known * e.compute
    eight = chip.fp8_flop_per_s * (shares["fp8"] or known) * e.compute if chip.fp8_flop_per_s else wide
    four = chip.fp4_flop_per_s * (shares["fp8"] or known) * e.compute * e.four_bit if chip.fp4_flop_per_s else wide
    return wide, eight, four


def _copies(g):
    """Schedulers of the group, each with its own cap, chunk and host."""
    return g.n if g.layout == "dep" else 1.0


def _step(g, decoding, context, prompt_tokens, prompt_context, host_s):
    """Time of one step that decodes one token each for `decoding` sequences and prefills `prompt_tokens`."""
    e, llm, bandwidth, tensor = g.engine, g.llm, g.chip.bandwidth_bytes_per_s, g.layout == "tp"
    width, local = (g.n, 1.0) if tensor else (1.0, g.n)
    sequences, tokens = decoding / local, (decoding + prompt_tokens) / local
    # matrix products: weights are read once, whatever the number of tokens
    read = g.read_bytes / width
    work = (tokens * g.token_time + sequences * g.head_time) / width
    if g.routed:
        r, share = g.routed, 1.0 if g.layout == "pp" else g.n
        routed_tokens = tokens if g.layout == "pp" else decoding + prompt_tokens
        touched = -np.expm1(routed_tokens * np.log1p(-r.experts_per_token / r.experts)) / share
        rows = routed_tokens * r.experts_per_token / share
        if g.layout == "dep":
            rows = rows + np.sqrt(2 * rows * np.log(g.n))
        rows = rows / r.experts + touched * e.tile / 2
        read = read + touched * g.expert_bytes
        work = work + rows * g.expert_time * (1 + e.expert_width * width / r.size)
    time = np.hypot(read / (bandwidth * e.bandwidth), work)
    # attention: every sequence reads its own cache
    for a in llm.attention:
        split = np.minimum(g.n, a.kv_heads) if tensor and a.kv_heads else 1.0
        held, over = _entries(a, context), _entries(a, prompt_context)
        if a.top_k is not None:
            held, over = np.minimum(held, a.top_k), np.minimum(over, a.top_k)
        sizes = a.head_dim + a.v_head_dim
        absorbed = sizes if a.latent_dim is None else 2 * a.latent_dim + a.rope_dim
        cache = a.layers * _entry_bytes(a, g.kv_bits) / split / (bandwidth * e.cache)
        heads = 2 * a.layers * a.q_heads / width / g.attention_rate
        time = time + sequences * held * np.maximum(cache, heads * absorbed)
        time = time + prompt_tokens / local * over * heads * sizes
    if llm.recurrent:
        time = time + 2 * sequences * state_bytes(llm) / width / (bandwidth * e.cache)
    time = time + _network(g, tokens) + _fixed(g)
    return np.hypot(time, decoding / _copies(g) * host_s) if host_s else time


def _network(g, tokens):
    """Two all-reduces a layer (tensor parallel), two all-to-alls a layer of experts, or hand-overs between stages."""
    e, published = g.engine, g.chip.scale_up_bytes_per_s or g.chip.bandwidth_bytes_per_s / 10
    link = published * g.chip.link_share * e.link
    vector, others = 2 * tokens * (g.llm.hidden_size or 0), (g.n - 1) / g.n
    if g.layout == "tp":
        time = (g.mixing + g.blocks) * (e.hop_s + 2 * vector * others / link)
    elif g.layout == "dep" and g.routed:
        time = g.routed.layers * (2 * e.hop_s + 1.5 * vector * g.routed.experts_per_token * others / link)
    else:
        time = (g.n - 1) * (e.hop_s + vector / link)
    return np.where(g.n > 1, time, 0.0)


def _fixed(g):
    latent = sum(a.layers for a in g.llm.attention if a.latent_dim)
    return g.engine.pace * g.chip.layer_overhead * (g.mixing * g.engine.layer_s + latent * g.engine.latent_s)


def _room(g, context):
    """Sequences of the whole group whose caches fit at a context, before the scheduler's cap."""
    e = g.engine
    weights = (g.held_bytes * _copies(g) + g.expert_bytes) / g.n
    free = e.usable * (g.chip.memory_bytes - e.reserve_bytes - weights)
    held = state_bytes(g.llm) * _copies(g) / g.n
    for a in g.llm.attention:
        split = np.minimum(g.n, a.kv_heads) if g.layout == "tp" and a.kv_heads else 1.0
        split = g.n if g.layout == "pp" else split
        held = held + a.layers * _entry_bytes(a, g.kv_bits) * _entries(a, context) / split
    fits = np.floor(_copies(g) * np.maximum(free, 0.0) / np.maximum(held, 1e-300))
    spread = (g.layout != "dep") | (g.routed is not None) | (g.n == 1)
    return np.where(spread & (free >= 0), np.minimum(fits, _copies(g) * e.max_sequences), 0.0)


def _steady(g, in_service, input_tokens, output_tokens, host_s, others=0.0):
    """
    Mean step while `in_service` sequences decode and each that ends is followed by a prompt.

    Per step `in_service - others` over `output_tokens` prompts arrive; a step takes a chunk of them, or none.
    """
    context, half = input_tokens + output_tokens / 2, input_tokens / 2
    chunk = np.minimum(input_tokens, g.engine.chunk_tokens) * _copies(g)
    arriving = (in_service - others) / output_tokens * input_tokens
    share = np.minimum(arriving / chunk, 1.0)
    pure = _step(g, in_service, context, 0.0, half, host_s)
    mixed = _step(g, in_service, context, np.maximum(arriving, chunk), half, host_s)
    return pure, (1 - share) * pure + share * mixed


def _prefill(g, prompts, input_tokens):
    tokens = prompts * input_tokens
    steps = np.maximum(tokens / (g.engine.chunk_tokens * _copies(g)), 1.0)
    return steps * _step(g, 0.0, input_tokens, tokens / steps, input_tokens / 2, 0.0)


class Latency(NamedTuple):
    """What a user waits, mean over requests."""

    time_to_first_token: float
    time_per_output_token: float


def _candidates(llm, layout, value, worth):
    """Value of the layout asked for; of None the worthiest of "tp" and "dep", and "pp" where neither fits."""
    if layout is not None:
        return value(layout)
    best = value("tp")
    options = ["dep"] if any(m.experts > 1 for m in llm.mlp) else []
    for other in [*options, "pp"]:
        if other == "pp" and np.all(worth(best) > 0):
            continue
        new = value(other)
        better = worth(new) > worth(best) if other == "dep" else worth(best) <= 0
        best = [np.where(better, a, b) for a, b in zip(new, best, strict=True)]
    return best


def prefill_time(
    llm, accelerator, *, n_accelerators, weight_bits, input_tokens, prompts=1, kv_bits=None, layout="tp", engine=None
):
    r"""
    Time to process prompts on a group that does nothing else.

    Parameters
    ----------
    llm : econmodel.parts.Llm
        The model.
    accelerator : econmodel.parts.Accelerator
        Its chips; without a published link a tenth of the memory bandwidth is assumed, without a published rate
        arithmetic costs nothing.
    n_accelerators : array_like
        Chips of the group. [accelerator]
    weight_bits : array_like
        Precision of the weights. [bit]
    input_tokens : array_like
        Length of a prompt. [token]
    prompts : array_like
        Prompts processed together, with "dep" spread evenly over the chips. There a single prompt stays on one chip
        and the others keep step with it: what it waits is the time of one prompt for each. [request]
    kv_bits : array_like, optional
        Precision of the cache; None for 8 where weights have at most 8 bits, and 16 with routed experts, whose
        published four- and eight-bit versions mostly leave it there. [bit]
    layout : str
        "tp": every matrix and head split; "dep": attention copied and sequences split, experts split; "pp": layers
        split.
    engine : Engine, optional
        Losses; None for a recent engine.

    Returns
    -------
    numpy.ndarray or float
        Time. [s] It is not asked whether the cache fits.

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Notes
    -----
    In steps of at most `chunk_tokens`: each reads the weights once, multiplies, attends to half the prompt on
    average, passes activations on, and pays the fixed time of its layers.

    References
    ----------
    J. Austin et al., "How to Scale Your Model", 2025, part 7. ``austin2025scale``

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
    >>> own = dict(n_accelerators=1, weight_bits=16, engine=ROOFLINE)
    >>> round(float(prefill_time(llama, chip, input_tokens=1e4, **own)), 2)  # 2 x 70e9 x 1e4 / 1e15, attention above
    1.53
    """
    g = _group(llm, accelerator, engine, layout, n_accelerators, weight_bits, kv_bits)
    return _prefill(g, positive(prompts, "prompts"), positive(input_tokens, "input_tokens"))[()]


def decode_step_time(
    llm, accelerator, *, n_accelerators, weight_bits, batch, context_tokens, kv_bits=None, layout="tp", engine=None
):
    r"""
    Time in which every sequence of a batch gets one more token, and no prompt is processed.

    Parameters
    ----------
    llm, accelerator, n_accelerators, weight_bits, kv_bits, layout, engine
        As in `prefill_time`.
    batch : array_like
        Sequences of the whole group. [sequence]
    context_tokens : array_like
        Tokens that each holds. [token]

    Returns
    -------
    numpy.ndarray or float
        Time of a step. [s] It is not asked whether the caches fit: `max_batch` says so.

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Notes
    -----
    .. math:: t = \sqrt{(M/W)^2 + (F/C)^2} + K/W + A/W + N + L \tau

    on each chip, with weights read :math:`M`, arithmetic :math:`F`, caches :math:`K`, activations :math:`A`, network
    time :math:`N`, :math:`L` layers; each rate reduced by the share that `Engine` names. Of :math:`E` experts, of
    which a token uses :math:`k`, :math:`B` tokens touch :math:`E (1 - (1 - k/E)^B)`. Chips of a tensor-parallel group
    hold copies of a latent, and of key-value heads where there are fewer heads than chips.

    References
    ----------
    S. Williams, A. Waterman, D. Patterson, "Roofline", 2009. ``williams2009roofline``

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3.5e12)
    >>> own = dict(n_accelerators=2, weight_bits=16, engine=ROOFLINE, context_tokens=0)
    >>> float(decode_step_time(llama, chip, batch=1, **own))  # 140 GB at 7 TB/s
    0.02
    """
    g = _group(llm, accelerator, engine, layout, n_accelerators, weight_bits, kv_bits)
    context = non_negative(context_tokens, "context_tokens")
    return _step(g, positive(batch, "batch"), context, 0.0, 0.0, 0.0)[()]


def max_batch(llm, accelerator, *, n_accelerators, weight_bits, context_tokens, kv_bits=None, layout="tp", engine=None):
    """
    Sequences that a group can hold at once.

    Parameters
    ----------
    llm, accelerator, n_accelerators, weight_bits, kv_bits, layout, engine
        As in `prefill_time`.
    context_tokens : array_like
        Room that the scheduler sets aside for each: prompt and whole answer, if it never evicts. [token]

    Returns
    -------
    numpy.ndarray or float
        Whole number; 0 where the weights, or a single sequence, do not fit, and where "dep" is asked of a model
        without routed experts. At most `Engine.max_sequences`. [sequence]

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12)
    >>> own = dict(weight_bits=16, kv_bits=16, context_tokens=2**17, engine=ROOFLINE)
    >>> [float(max_batch(llama, chip, n_accelerators=n, **own)) for n in (1, 2, 4)]  # 0.9 x 180 GB over 42.9 GB
    [0.0, 0.0, 3.0]
    """
    g = _group(llm, accelerator, engine, layout, n_accelerators, weight_bits, kv_bits)
    return _room(g, positive(context_tokens, "context_tokens"))[()]


def completion_rates(
    llm, accelerator, *, n_accelerators, weight_bits, input_tokens, output_tokens, kv_bits=None, layout=None,
    engine=None,
):  # fmt: skip
    """
    Requests finished per second with 1, 2, ... of them in service: what a queue in front of the group needs.

    Parameters
    ----------
    llm, accelerator, n_accelerators, weight_bits, kv_bits, engine
        As in `prefill_time`, but single numbers.
    input_tokens, output_tokens : float
        Mean prompt and answer. [token]
    layout : str, optional
        As in `prefill_time`; None for the one with the highest rate at the largest batch.

    Returns
    -------
    numpy.ndarray
        Total rate with n in service at index n - 1, up to `max_batch`; it never falls. Empty where nothing fits. [1/s]

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
    >>> rates = completion_rates(
    ...     llama, chip, n_accelerators=4, weight_bits=16, input_tokens=1000, output_tokens=1000
    ... )
    >>> bool(rates[31] > 10 * rates[0])
    True
    """
    lengths = positive(input_tokens, "input_tokens"), positive(output_tokens, "output_tokens")
    best = np.zeros(0)
    options = (layout,) if layout is not None else ("tp", "dep", "pp")
    for option in options:
        g = _group(llm, accelerator, engine, option, n_accelerators, weight_bits, kv_bits)
        n = np.arange(1.0, float(_room(g, sum(lengths))) + 1)
        rates = n / lengths[1] / _steady(g, n, *lengths, g.engine.stream_s)[1]
        if n.size and (not best.size or (rates[-1] > best[-1] and option != "pp")):
            best = rates
    return best


def predict_throughput(
    llm, accelerator, *, n_accelerators, weight_bits, input_tokens, output_tokens, kv_bits=None, layout=None,
    engine=None,
):  # fmt: skip
    """
    Output tokens per second of a whole group that always has requests waiting.

    Parameters
    ----------
    llm, accelerator, n_accelerators, weight_bits, kv_bits, engine
        As in `prefill_time`.
    input_tokens, output_tokens : array_like
        Prompt and answer of every request. [token]
    layout : str, optional
        As in `prefill_time`; None for the better of "tp" and "dep", or "pp" where neither fits: no pipeline was among
        the measurements.

    Returns
    -------
    numpy.ndarray or float
        Rate; 0 where not one request fits. [token/s]

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Notes
    -----
    As many sequences as fit with prompt and whole answer, each in steps that decode all of them and take in the
    prompts that follow those that end.

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
    >>> own = dict(weight_bits=16, input_tokens=1000, output_tokens=1000)
    >>> float(predict_throughput(llama, chip, n_accelerators=1, **own))
    0.0
    >>> four, eight = predict_throughput(llama, chip, n_accelerators=[4, 8], **own)
    >>> bool(eight > four)
    True
    """
    lengths = positive(input_tokens, "input_tokens"), positive(output_tokens, "output_tokens")

    def rate(option):
        g = _group(llm, accelerator, engine, option, n_accelerators, weight_bits, kv_bits)
        room = _room(g, sum(lengths))
        return [room / _steady(g, np.maximum(room, 1.0), *lengths, 0.0)[1]]

    return _candidates(llm, layout, rate, lambda outcome: outcome[0])[0][()]


def predict_latency(
    llm, accelerator, *, n_accelerators, weight_bits, concurrency, input_tokens, output_tokens, kv_bits=None,
    layout=None, engine=None,
):  # fmt: skip
    r"""
    Mean times to the first and to each further token while a fixed number of requests is kept in flight.

    Parameters
    ----------
    llm, accelerator, n_accelerators, weight_bits, kv_bits, engine
        As in `prefill_time`.
    concurrency : array_like
        Requests in flight, a new one for each that ends. [request]
    input_tokens, output_tokens : array_like
        Prompt and answer of every request. [token]
    layout : str, optional
        As in `predict_throughput`; None for the one that answers soonest.

    Returns
    -------
    Latency
        (time_to_first_token, time_per_output_token); `inf` where not one request fits. [s]

    Raises
    ------
    ValueError
        A number out of range, an unknown layout.

    Notes
    -----
    Requests beyond those that fit wait for a place: :math:`(c / B - 1)` service times on average. In service, a
    prompt shares its steps with others that arrive together, about :math:`\sqrt B` of them, and the prompts of
    others lengthen the steps between tokens. With "dep" a prompt stays on one chip, and each chip takes one in.

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
    >>> own = dict(n_accelerators=4, weight_bits=16, input_tokens=1000, output_tokens=1000)
    >>> few, many = (predict_latency(llama, chip, concurrency=c, **own) for c in (1, 32))
    >>> bool(few.time_per_output_token < many.time_per_output_token < 2 * few.time_per_output_token)
    True
    """
    lengths = positive(input_tokens, "input_tokens"), positive(output_tokens, "output_tokens")
    wanted = positive(concurrency, "concurrency")

    def latency(option):
        g = _group(llm, accelerator, engine, option, n_accelerators, weight_bits, kv_bits)
        e, room = g.engine, _room(g, sum(lengths))
        served = np.clip(room, 1.0, wanted)
        pure, mean = _steady(g, served, *lengths, e.stream_s, others=np.minimum(served, 1.0))
        deferred = e.deferral * (mean - pure) * lengths[1]
        per_token = mean - e.deferral * (mean - pure)
        prompts = _prefill(g, _copies(g), lengths[0]) * (1 + e.bunching * (np.sqrt(served) - 1))
        first = e.request_s + pure + prompts + deferred
        waiting = (wanted / served - 1) * (first + lengths[1] * per_token)
        return [np.where(room > 0, first + waiting, np.inf), np.where(room > 0, per_token, np.inf)]

    def worth(outcome):
        return 1 / (outcome[0] + lengths[1] * outcome[1])

    return Latency(*(time[()] for time in _candidates(llm, layout, latency, worth)))
