"""The parts of a serving system as facts, and the arithmetic of one part: weights, KV cache, FLOP per token."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from econmodel.units import count, non_negative, positive

#: Ways to spread a model over chips, tensor parallel, expert parallel with data-parallel attention, pipeline parallel.
LAYOUTS = ("tp", "dep", "pp")


def _check(part, check, *names, **options):
    for name in names:
        if getattr(part, name) is not None:
            check(getattr(part, name), name, **options)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """
    One chip as a scheduler sees it, dense rates, one direction of a link; None where nothing is published.

    Parameters
    ----------
    name : str
        As in `catalog.accelerators`, or your own.
    memory_bytes : float
        What a program can allocate. [B]
    bandwidth_bytes_per_s : float
        Of that memory. [B/s]
    bf16_flop_per_s, fp8_flop_per_s, fp4_flop_per_s : float, optional
        Dense rates by precision. [FLOP/s]
    bf16_measured_flop_per_s, fp8_measured_flop_per_s : float, optional
        Best matrix product that somebody measured. [FLOP/s]
    scale_up_bytes_per_s : float, optional
        To the other chips of the node or rack, one direction. [B/s]
    host_bytes_per_s : float, optional
        To the CPU's memory, one direction. [B/s]
    power_w : float, optional
        Rated power. [W]
    layer_overhead : float
        Time of a layer that no arithmetic explains, relative to the chips on which `inference.Engine` is fitted.
    link_share : float
        Share of the link that all-reduce and all-to-all reach, relative to those chips.

    Raises
    ------
    ValueError
        A number that is not above 0; names argument and value.

    Examples
    --------
    >>> from dataclasses import replace
    >>> chip = Accelerator(name="mine", memory_bytes=80e9, bandwidth_bytes_per_s=3e12)
    >>> replace(chip, memory_bytes=2 * chip.memory_bytes).memory_bytes
    160000000000.0
    """

    name: str
    memory_bytes: float
    bandwidth_bytes_per_s: float
    bf16_flop_per_s: float | None = None
    fp8_flop_per_s: float | None = None
    fp4_flop_per_s: float | None = None
    bf16_measured_flop_per_s: float | None = None
    fp8_measured_flop_per_s: float | None = None
    scale_up_bytes_per_s: float | None = None
    host_bytes_per_s: float | None = None
    power_w: float | None = None
    layer_overhead: float = 1.0
    link_share: float = 1.0

    def __post_init__(self):
        """Check what was given."""
        _check(self, positive, *(name for name in self.__dataclass_fields__ if name != "name"))


@dataclass(frozen=True, kw_only=True)
class Attention:
    """
    Layers of one kind that keep an entry per token, or per few tokens, in a cache.

    Parameters
    ----------
    layers : int
        How many. [layer]
    q_heads : int
        Query heads. [head]
    head_dim, v_head_dim : int
        Size of a query or key, and of a value, per head.
    kv_heads : int, optional
        Heads whose keys and values are stored: as many as `q_heads` in multi-head, one in multi-query, between in
        grouped-query attention; None where a latent is stored instead. [head]
    latent_dim : int, optional
        Size of the one vector that stands for the keys and values of all heads (multi-head latent attention).
    rope_dim : int
        Size of the position key stored beside the latent, and part of `head_dim`.
    window : int, optional
        Tokens that stay in the cache: a sliding window, or a chunk, of which this is the most it holds. [token]
    stride : int
        Tokens that one entry stands for; above 1 a second, compressed cache of layers counted elsewhere. [token]
    top_k : int, optional
        Entries that a query reads, chosen by an indexer.
    index_heads, index_dim : int
        Size of that indexer; its own small cache is not counted here.
    entry_bytes : float, optional
        Bytes of one entry in one layer where the architecture does not give them: a cache in a fixed mix of
        precisions. It then holds whatever the bits asked for. [B]
    q_rank, out_rank : int, optional
        Rank of the query and output projections where they are factored.
    out_groups : int
        Groups of heads of a factored output projection.
    output_gate : bool
        Whether a gate as large as the output projection multiplies the heads.

    Raises
    ------
    ValueError
        A size that is no whole number, both or neither of `kv_heads` and `latent_dim`, query heads that do not divide
        among the stored ones.

    Examples
    --------
    >>> Attention(layers=1, q_heads=8, head_dim=64, v_head_dim=64)
    Traceback (most recent call last):
    ...
    ValueError: kv_heads = None is not allowed: give either kv_heads or latent_dim
    """

    layers: int
    q_heads: int
    head_dim: int
    v_head_dim: int
    kv_heads: int | None = None
    latent_dim: int | None = None
    rope_dim: int = 0
    window: int | None = None
    stride: int = 1
    top_k: int | None = None
    index_heads: int = 0
    index_dim: int = 0
    entry_bytes: float | None = None
    q_rank: int | None = None
    out_rank: int | None = None
    out_groups: int = 1
    output_gate: bool = False

    def __post_init__(self):
        """Check what was given."""
        _check(self, count, "rope_dim", "index_heads", "index_dim")
        _check(self, count, "layers", "q_heads", "head_dim", "v_head_dim", "kv_heads", "latent_dim", least=1)
        _check(self, count, "window", "stride", "top_k", "q_rank", "out_rank", "out_groups", least=1)
        _check(self, positive, "entry_bytes")
        if (self.kv_heads is None) == (self.latent_dim is None):
            raise ValueError(f"kv_heads = {self.kv_heads} is not allowed: give either kv_heads or latent_dim")
        if self.kv_heads is not None and np.any(self.q_heads % self.kv_heads):
            raise ValueError(f"kv_heads = {self.kv_heads} is not allowed: q_heads = {self.q_heads} is no multiple")


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """
    Layers of linear attention or a state-space model: a state of constant size per sequence, and no cache.

    Parameters
    ----------
    layers : int
        How many. [layer]
    key_heads, key_dim : int
        Heads and size of keys (of a state-space model: groups, and size of the state). [head]
    value_heads, value_dim : int
        Heads and size of values. [head]
    state_bits : float
        Precision of the state. [bit]

    Raises
    ------
    ValueError
        A size that is no whole number above 0.

    Examples
    --------
    >>> Recurrent(layers=3, key_heads=8, value_heads=8, key_dim=128, value_dim=128, state_bits=32).layers
    3
    """

    layers: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    state_bits: float

    def __post_init__(self):
        """Check what was given."""
        _check(self, count, "layers", "key_heads", "value_heads", "key_dim", "value_dim", least=1)
        _check(self, positive, "state_bits")


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """
    Feed-forward blocks of one kind: dense, shared by all tokens, or routed among experts.

    Parameters
    ----------
    layers : int
        How many. [layer]
    size : int
        Inner size of one expert.
    matrices : int
        Weight matrices of one expert: 3 with a gate, 2 without.
    experts, experts_per_token : int
        1 and 1 where nothing is routed. [expert]
    width : int, optional
        Outer size of an expert where tokens are projected before and after; None for the model's hidden size.

    Raises
    ------
    ValueError
        A size that is no whole number above 0, or more experts per token than there are.

    Examples
    --------
    >>> Mlp(layers=32, size=14336, matrices=3, experts=8, experts_per_token=9)
    Traceback (most recent call last):
    ...
    ValueError: experts_per_token = 9 is not allowed: at most experts = 8
    """

    layers: int
    size: int
    matrices: int
    experts: int = 1
    experts_per_token: int = 1
    width: int | None = None

    def __post_init__(self):
        """Check what was given."""
        _check(self, count, *self.__dataclass_fields__, least=1)
        if self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token = {self.experts_per_token} is not allowed: at most experts = {self.experts}"
            )


@dataclass(frozen=True, kw_only=True)
class Llm:
    """
    A language model: how many weights, and which layers hold what.

    Parameters
    ----------
    name : str
        As in `catalog.llms`, or your own.
    params_total : float, optional
        All weights. [parameter]
    params_active : float, optional
        Weights that multiply a token: routed experts by their share, the input embedding, a lookup, left out, the
        output head counted even where it is the same matrix. [parameter]
    attention : tuple of Attention
        Groups of layers with a cache.
    recurrent : Recurrent, optional
        Layers with a constant state.
    mlp : tuple of Mlp
        Feed-forward blocks.
    hidden_size, vocab : int, optional
        Size of the residual stream; tokens that are told apart. [token]
    embeddings : int, optional
        Matrices of size vocab x hidden: 2, or 1 where input and output share one.
    max_positions : int, optional
        Longest context. [token]

    Raises
    ------
    ValueError
        A number that is not above 0, more active than total weights, an unknown number of embeddings.

    Examples
    --------
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> Llm(name="mine", params_total=70e9, params_active=71e9, attention=(layers,))
    Traceback (most recent call last):
    ...
    ValueError: params_active = 71000000000.0 is not allowed: at most params_total = 70000000000.0
    """

    name: str
    params_total: float | None
    params_active: float | None
    attention: tuple[Attention, ...]
    recurrent: Recurrent | None = None
    mlp: tuple[Mlp, ...] = ()
    hidden_size: int | None = None
    vocab: int | None = None
    embeddings: int | None = None
    max_positions: int | None = None

    def __post_init__(self):
        """Check what was given."""
        _check(self, positive, "params_total", "params_active")
        _check(self, count, "hidden_size", "vocab", "embeddings", "max_positions", least=1)
        if self.embeddings not in (None, 1, 2):
            raise ValueError(f"embeddings = {self.embeddings} is not allowed: 1 or 2")
        known = self.params_total is not None and self.params_active is not None
        if known and np.any(self.params_active > self.params_total):
            raise ValueError(
                f"params_active = {self.params_active} is not allowed: at most params_total = {self.params_total}"
            )


@dataclass(frozen=True, kw_only=True)
class Tier:
    """
    A place where a KV cache can wait; None where nothing is known.

    Parameters
    ----------
    name : str
        Such as "DDR5".
    capacity_bytes : float, optional
        Room per accelerator. [B]
    bandwidth_bytes_per_s : float, optional
        To and from the accelerator, one direction. [B/s]
    latency_s : float, optional
        Until the first byte. [s]
    usd_per_byte : float, optional
        Purchase price. [USD/B]

    Raises
    ------
    ValueError
        Capacity or bandwidth not above 0, latency or price below 0.

    Examples
    --------
    >>> Tier(name="DDR5", capacity_bytes=256e9, bandwidth_bytes_per_s=55e9).bandwidth_bytes_per_s
    55000000000.0
    """

    name: str
    capacity_bytes: float | None = None
    bandwidth_bytes_per_s: float | None = None
    latency_s: float | None = None
    usd_per_byte: float | None = None

    def __post_init__(self):
        """Check what was given."""
        _check(self, positive, "capacity_bytes", "bandwidth_bytes_per_s")
        _check(self, non_negative, "latency_s", "usd_per_byte")


@dataclass(frozen=True, kw_only=True)
class Replica:
    """
    One serving unit: a model on a group of equal accelerators.

    Parameters
    ----------
    llm : Llm
        What is served.
    accelerator : Accelerator
        On which chip.
    n_accelerators : int
        Chips of the group.
    weight_bits, kv_bits : float
        Precision in which weights and cache are stored. [bit]
    layout : str, optional
        One of `LAYOUTS`; None for the best that fits.

    Raises
    ------
    ValueError
        No accelerator, bits not above 0, an unknown layout. A model that does not fit is allowed: it serves nothing.

    Examples
    --------
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12)
    >>> Replica(llm=None, accelerator=chip, n_accelerators=8, weight_bits=8, kv_bits=16, layout="ring")
    Traceback (most recent call last):
    ...
    ValueError: layout = 'ring' is not allowed: one of tp, dep, pp, or None
    """

    llm: Llm
    accelerator: Accelerator
    n_accelerators: int
    weight_bits: float
    kv_bits: float
    layout: str | None = None

    def __post_init__(self):
        """Check what was given."""
        _check(self, count, "n_accelerators", least=1)
        _check(self, positive, "weight_bits", "kv_bits")
        if self.layout not in (None, *LAYOUTS):
            raise ValueError(f"layout = {self.layout!r} is not allowed: one of {', '.join(LAYOUTS)}, or None")


def _known(llm, name):
    value = getattr(llm, name)
    if value is None:
        raise ValueError(f"{name} = None is not allowed: not known for {llm.name}")
    return value


class ParamCounts(NamedTuple):
    """Weights of a model, as `Llm` defines them."""

    total: float
    active: float


def count_params(llm):
    r"""
    Weights counted from the architecture: embeddings, attention, feed-forward blocks with their routers.

    Parameters
    ----------
    llm : Llm
        With `hidden_size`, `vocab`, `embeddings` and `mlp`.

    Returns
    -------
    ParamCounts
        `total` with both embeddings (one where they are tied), `active` without the input embedding. [parameter]

    Raises
    ------
    ValueError
        A size that is needed is None.

    Notes
    -----
    With hidden size :math:`h`, a layer of attention has :math:`h d_q H + h (d_q + d_v) H_{kv} + d_v H h` weights,
    :math:`H` heads; with a latent of size :math:`c` and position key :math:`r` instead
    :math:`h r_q + r_q d_q H + h (c + r) + c (d_q - r + d_v) H + d_v H h` (queries through rank :math:`r_q`);
    a recurrent layer :math:`h (2 d_k H_k + 3 d_v H_v)`; an expert `matrices` :math:`\times w s`. Left out, under 1 %
    together: norms, biases, convolutions, gates of recurrent layers, compressors, vision towers, and the modules that
    predict further tokens.

    References
    ----------
    DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1. ``deepseek2024v2``

    Examples
    --------
    >>> layers = Attention(layers=32, q_heads=32, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> mixtral = Llm(
    ...     name="Mixtral 8x7B", params_total=None, params_active=None, attention=(layers,), hidden_size=4096,
    ...     vocab=32000, embeddings=2, mlp=(Mlp(layers=32, size=14336, matrices=3, experts=8, experts_per_token=2),),
    ... )
    >>> [round(n / 1e9, 2) for n in count_params(mixtral)]
    [46.7, 12.75]
    """
    hidden = _known(llm, "hidden_size")
    embedding = _known(llm, "vocab") * hidden
    mixing = _attention_params(llm)
    for a in llm.attention:
        index = (a.q_rank or hidden) * a.index_heads * a.index_dim + hidden * (a.index_dim + a.index_heads)
        mixing += a.layers * (index if a.index_heads else 0)
    if llm.recurrent is not None:
        r = llm.recurrent
        mixing += r.layers * hidden * (2 * r.key_heads * r.key_dim + 3 * r.value_heads * r.value_dim)
    total, active = _known(llm, "embeddings") * embedding + mixing, embedding + mixing
    for m in llm.mlp:
        width = m.width or hidden
        expert = m.matrices * width * m.size
        around = (hidden * m.experts if m.experts > 1 else 0) + (2 * hidden * width if m.width else 0)
        total += m.layers * (m.experts * expert + around)
        active += m.layers * (m.experts_per_token * expert + around)
    return ParamCounts(total, active)


class ParamsByUse(NamedTuple):
    """Weights of a model by what becomes of them on many chips; together all of them. [parameter]"""

    embedding: float
    attention: float
    routed: float
    other: float


def params_by_use(llm):
    """
    Weights split into embeddings, projections of attention, routed experts, and the rest.

    Parameters
    ----------
    llm : Llm
        With `params_total`; what its architecture leaves open counts as the rest.

    Returns
    -------
    ParamsByUse
        `embedding` (all matrices of size vocab x hidden), `attention`, `routed`, `other` (feed-forward blocks that
        every token passes, routers, recurrent layers). [parameter]

    Raises
    ------
    ValueError
        `params_total` not known, or less than what the architecture needs.

    Examples
    --------
    >>> layers = Attention(layers=32, q_heads=32, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> experts = Mlp(layers=32, size=14336, matrices=3, experts=8, experts_per_token=2)
    >>> mixtral = Llm(name="Mixtral 8x7B", params_total=46.71e9, params_active=12.75e9, attention=(layers,),
    ...               hidden_size=4096, vocab=32000, embeddings=2, mlp=(experts,))
    >>> [round(float(n) / 1e9, 1) for n in params_by_use(mixtral)]
    [0.3, 1.3, 45.1, 0.0]
    """
    total = _known(llm, "params_total")
    embedding = (llm.embeddings or 1) * (llm.vocab or 0) * (llm.hidden_size or 0)
    attention = 0 if llm.hidden_size is None else _attention_params(llm)
    routed = sum(
        m.layers * m.experts * m.matrices * (m.width or _known(llm, "hidden_size")) * m.size
        for m in llm.mlp
        if m.experts > 1
    )
    other = total - embedding - attention - routed
    if np.any(other < -1e-3 * total):
        raise ValueError(f"params_total = {total:g} is not allowed: {llm.name} has more than that by its architecture")
    return ParamsByUse(embedding, attention, routed, np.maximum(other, 0.0))


def _attention_params(llm):
    return sum(a.layers * _projections(a, llm.hidden_size) for a in llm.attention if a.stride == 1)


def _projections(a, hidden):
    queries, heads = a.q_heads * a.head_dim, a.q_heads * a.v_head_dim
    into = queries * hidden if a.q_rank is None else a.q_rank * (hidden + queries)
    out = heads * hidden if a.out_rank is None else a.out_rank * (heads + a.out_groups * hidden)
    gate = heads * hidden if a.output_gate else 0
    if a.latent_dim is None:
        return into + hidden * a.kv_heads * (a.head_dim + a.v_head_dim) + out + gate
    expand = a.latent_dim * a.q_heads * (a.head_dim - a.rope_dim + a.v_head_dim)
    return into + hidden * (a.latent_dim + a.rope_dim) + expand + out + gate


def weight_bytes(llm, *, bits):
    """
    Memory that the weights take.

    Parameters
    ----------
    llm : Llm
        With `params_total`.
    bits : array_like
        Precision; scales of quantized weights add a few per cent. [bit]

    Returns
    -------
    numpy.ndarray or float
        `params_total` x `bits` / 8. [B]

    Raises
    ------
    ValueError
        `params_total` not known, or `bits` not above 0.

    Examples
    --------
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> float(weight_bytes(llama, bits=16))
    140000000000.0
    """
    return (_known(llm, "params_total") * positive(bits, "bits") / 8)[()]


def _entry_bytes(a, bits):
    if a.entry_bytes is not None:
        return a.entry_bytes
    stored = a.kv_heads * (a.head_dim + a.v_head_dim) if a.latent_dim is None else a.latent_dim + a.rope_dim
    return stored * bits / 8


def kv_bytes_per_token(llm, *, bits=16):
    r"""
    Growth of the KV cache per token, in a context longer than every window.

    Parameters
    ----------
    llm : Llm
        The model.
    bits : array_like
        Precision of the cache; without effect on layers with `entry_bytes`. [bit]

    Returns
    -------
    numpy.ndarray or float
        Sum over the layers without a window of :math:`H_{kv} (d_k + d_v)` bits / 8, or of latent and position key in
        its place, per token that an entry stands for. [B/token]

    Raises
    ------
    ValueError
        `bits` not above 0.

    Notes
    -----
    Windowed, chunked and recurrent layers add nothing once full: `kv_bytes` has them.

    References
    ----------
    J. Austin et al., "How to Scale Your Model", 2025, part 7. ``austin2025scale``

    Examples
    --------
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> float(kv_bytes_per_token(llama)) / 1024
    320.0
    """
    bits = positive(bits, "bits")
    growing = (a.layers * _entry_bytes(a, bits) / a.stride for a in llm.attention if a.window is None)
    return sum(growing, start=np.zeros_like(bits))[()]


def state_bytes(llm):
    """
    Constant state of the recurrent layers of one sequence.

    Parameters
    ----------
    llm : Llm
        The model.

    Returns
    -------
    float
        layers x value heads x key size x value size x bits / 8; 0 without such layers. [B]

    Examples
    --------
    >>> linear = Recurrent(layers=48, key_heads=16, value_heads=48, key_dim=128, value_dim=128, state_bits=32)
    >>> state_bytes(Llm(name="27B", params_total=27e9, params_active=26e9, attention=(), recurrent=linear)) / 2**20
    144.0
    """
    r = llm.recurrent
    return 0.0 if r is None else r.layers * r.value_heads * r.key_dim * r.value_dim * r.state_bits / 8


def kv_bytes(llm, context_tokens, *, bits=16):
    r"""
    Memory that one sequence holds: caches, windows as far as they are full, and recurrent state.

    Parameters
    ----------
    llm : Llm
        The model.
    context_tokens : array_like
        Tokens so far. [token]
    bits : array_like
        Precision of the cache; without effect on recurrent states and on layers with `entry_bytes`. [bit]

    Returns
    -------
    numpy.ndarray or float
        :math:`\sum_a L_a e_a \min(n, w_a) / s_a` + state, entries of :math:`e` bytes, window :math:`w`, stride
        :math:`s`; of a chunked layer the most that it holds. [B]

    Raises
    ------
    ValueError
        `context_tokens` below 0 or `bits` not above 0.

    Examples
    --------
    >>> layers = Attention(layers=12, q_heads=64, kv_heads=8, head_dim=64, v_head_dim=64)
    >>> window = Attention(layers=12, q_heads=64, kv_heads=8, head_dim=64, v_head_dim=64, window=128)
    >>> oss = Llm(name="gpt-oss-20b", params_total=21e9, params_active=3.6e9, attention=(layers, window))
    >>> [float(kv_bytes(oss, n)) / 2**20 for n in (128, 1024)]
    [6.0, 27.0]
    """
    context_tokens = non_negative(context_tokens, "context_tokens")
    bits = positive(bits, "bits")
    caches = (a.layers * _entry_bytes(a, bits) * _entries(a, context_tokens) for a in llm.attention)
    return sum(caches, start=np.zeros_like(context_tokens * bits) + state_bytes(llm))[()]


def _entries(a, context_tokens):
    return (context_tokens if a.window is None else np.minimum(context_tokens, a.window)) / a.stride


def flop_per_token(llm, context_tokens=0, *, absorbed=False):
    r"""
    Arithmetic to process one token behind a context.

    Parameters
    ----------
    llm : Llm
        With `params_active`.
    context_tokens : array_like
        Tokens that it attends to; half the prompt on average while a prompt is processed. [token]
    absorbed : bool
        Whether latent attention is computed on the latent itself, as in decoding, which saves memory traffic and
        costs more arithmetic than on the expanded heads, as in prefill.

    Returns
    -------
    numpy.ndarray or float
        :math:`2 P + \sum_a 2 L_a H_a (d_k + d_v) \min(m_a, k_a) + 2 L_a H_i d_i m_a + 4 S`: active weights; scores and
        values over the :math:`m` entries held, or the :math:`k` that the indexer chose after scoring all; update and
        read of the recurrent state of :math:`S` elements. [FLOP/token]

    Raises
    ------
    ValueError
        `params_active` not known, or `context_tokens` below 0.

    Notes
    -----
    A multiplication and an addition count as two. On the latent, :math:`d_k = c + r` and :math:`d_v = c`.

    References
    ----------
    DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1. ``deepseek2024v2``

    Examples
    --------
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> [round(float(flop_per_token(llama, n)) / 1e9) for n in (0, 131072)]
    [140, 484]
    """
    context_tokens = non_negative(context_tokens, "context_tokens")
    flop = 2 * _known(llm, "params_active") + np.zeros_like(context_tokens)
    for a in llm.attention:
        sizes = a.head_dim + a.v_head_dim
        if absorbed and a.latent_dim is not None:
            sizes = 2 * a.latent_dim + a.rope_dim
        held = _entries(a, context_tokens)
        read = held if a.top_k is None else np.minimum(held, a.top_k)
        scores = a.index_heads * a.index_dim * held if a.index_heads else 0
        flop = flop + 2 * a.layers * (a.q_heads * sizes * read + scores)
    if llm.recurrent is not None:
        r = llm.recurrent
        flop = flop + 4 * r.layers * r.value_heads * r.key_dim * r.value_dim
    return flop[()]
