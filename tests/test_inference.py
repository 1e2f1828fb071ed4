"""Prefill, decode, memory and network: limits, bounds, monotony, and what was measured."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import calibrate
import numpy as np
import pytest

from econmodel import catalog, parts, validation
from econmodel.inference import (
    ENGINES,
    ROOFLINE,
    Engine,
    completion_rates,
    decode_step_time,
    max_batch,
    predict_latency,
    predict_throughput,
    prefill_time,
)
from econmodel.parts import Accelerator, Attention, Llm, Mlp

RNG = np.random.default_rng(11)


def dense(layers=80, hidden=8192, heads=64, kv_heads=8, size=28672, vocab=32000, **more):
    attention = Attention(layers=layers, q_heads=heads, kv_heads=kv_heads, head_dim=128, v_head_dim=128)
    return counted(attention, [Mlp(layers=layers, size=size, matrices=3)], hidden, vocab, **more)


def counted(attention, mlp, hidden, vocab, **more):
    llm = Llm(
        name="any", params_total=None, params_active=None, attention=(attention,), mlp=tuple(mlp), hidden_size=hidden,
        vocab=vocab, embeddings=2, **more,
    )  # fmt: skip
    total, active = parts.count_params(llm)
    return replace(llm, params_total=total, params_active=active)


def some_models():
    """Random models of every kind that the formulas tell apart."""
    for i in range(24):
        layers, hidden = int(RNG.integers(8, 90)), 128 * int(RNG.integers(8, 80))
        heads = 8 * int(RNG.integers(1, 16))
        kind = {"kv_heads": int(2 ** RNG.integers(0, 4))} if i % 3 else {"latent_dim": 512, "rope_dim": 64}
        attention = Attention(layers=layers, q_heads=heads, head_dim=128, v_head_dim=128, **kind)
        mlp = [Mlp(layers=layers, size=256 * int(RNG.integers(4, 80)), matrices=3)]
        if i % 2:
            experts = int(RNG.integers(8, 300))
            chosen = int(RNG.integers(1, 9))
            mlp.append(Mlp(layers=layers, size=1536, matrices=3, experts=experts, experts_per_token=chosen))
        yield counted(attention, mlp, hidden, int(RNG.integers(30_000, 200_000)))


def some_chip():
    bf16 = 1e15 * RNG.uniform(0.1, 3)
    return Accelerator(
        name="any", memory_bytes=1e9 * RNG.uniform(16, 400), bandwidth_bytes_per_s=1e12 * RNG.uniform(0.3, 20),
        bf16_flop_per_s=bf16, fp8_flop_per_s=2 * bf16 if RNG.random() < 0.7 else None,
        scale_up_bytes_per_s=1e9 * RNG.uniform(30, 1800) if RNG.random() < 0.8 else None,
    )  # fmt: skip


CASES = [(llm, some_chip()) for llm in some_models()]
LOADS = {
    "n_accelerators": np.array([1, 2, 4, 8, 8, 72]),
    "weight_bits": np.array([16, 8, 4, 8, 16, 8]),
    "input_tokens": np.array([20.0, 1000, 8000, 30_000, 128, 4096]),
    "output_tokens": np.array([2000.0, 1000, 500, 20, 128, 4096]),
}
LAYOUTS = ["tp", "dep", "pp", None]


def test_decoding_agrees_with_the_example_of_the_scaling_book():
    """30 GB of weights on 16 TPU v5e, 819 MB of cache a sequence: 2.6 ms and 21 ms (Austin et al., part 7)."""
    attention = Attention(layers=1, q_heads=1, kv_heads=1, head_dim=1, v_head_dim=1, entry_bytes=819e6)
    llm = Llm(name="30B", params_total=30e9, params_active=30e9, attention=(attention,))
    chip = Accelerator(name="v5e", memory_bytes=16e9, bandwidth_bytes_per_s=8.1e11, bf16_flop_per_s=1.97e14)
    ways = dict(n_accelerators=16, weight_bits=8, context_tokens=1, layout="dep", engine=ROOFLINE)
    # 16 copies of the weights would not be theirs: spread weights sixteenfold by a chip sixteen times as fast
    chip = replace(chip, bandwidth_bytes_per_s=16 * 8.1e11, bf16_flop_per_s=16 * 1.97e14)
    ways["n_accelerators"] = 1
    times = [1e3 * decode_step_time(llm, chip, batch=b, **ways) for b in (4, 256)]
    assert times == pytest.approx([2.6, 21.1], rel=0.03)


@pytest.mark.parametrize(("llm", "chip"), CASES)
def test_one_sequence_takes_at_least_its_bytes_over_the_bandwidth(llm, chip):
    use = parts.params_by_use(llm)
    experts = next((m for m in llm.mlp if m.experts > 1), None)
    routed = use.routed * experts.experts_per_token / experts.experts if experts else 0
    for n in (1, 2, 8):
        for layout in ("tp", "dep", "pp"):
            if layout == "dep" and not experts:
                continue
            time = decode_step_time(
                llm, chip, n_accelerators=n, weight_bits=8, batch=1, context_tokens=2000, layout=layout
            )
            read = use.attention + use.other + routed + parts.kv_bytes(llm, 2000, bits=8)
            assert time >= read / (n * chip.bandwidth_bytes_per_s)


@pytest.mark.parametrize(("llm", "chip"), CASES)
def test_a_huge_batch_without_context_runs_at_the_peak_that_its_products_reach(llm, chip):
    if any(m.experts > 1 for m in llm.mlp):
        return
    engine = Engine()
    time = decode_step_time(llm, chip, n_accelerators=1, weight_bits=16, batch=1e9, context_tokens=0)
    rate = 1e9 * 2 * llm.params_active / time
    assert rate == pytest.approx(chip.bf16_flop_per_s * engine.sustained * engine.compute, rel=1e-3)


def test_arithmetic_per_joule_is_the_median_of_the_measured_chips():
    chips = catalog.accelerators().dropna(subset=["bf16_measured_flop_per_s", "power_w"])
    assert len(chips) > 5
    median = (chips["bf16_measured_flop_per_s"] / chips["power_w"]).median()
    assert Engine().flop_per_joule == pytest.approx(median, rel=0.005)


def test_a_chip_that_nobody_measured_computes_what_its_power_pays_for():
    llm, chip = catalog.llm("Meta-Llama-3.1-8B"), catalog.accelerator("H100-PCIe-80GB")
    rates = {}
    for watt in (350.0, 175.0, 1e4):
        own = replace(chip, power_w=watt)
        time = decode_step_time(llm, own, n_accelerators=1, weight_bits=16, batch=1e9, context_tokens=0)
        rates[watt] = 1e9 * 2 * llm.params_active / time / Engine().compute
    assert rates[350.0] == pytest.approx(350 * Engine().flop_per_joule, rel=1e-3)
    assert rates[175.0] == pytest.approx(rates[350.0] / 2, rel=1e-3)
    assert rates[1e4] == pytest.approx(chip.bf16_flop_per_s * Engine().sustained, rel=1e-3)


@pytest.mark.parametrize(("llm", "chip"), CASES)
def test_throughput_stays_below_the_roofline(llm, chip):
    peak = np.where(LOADS["weight_bits"] > 8, chip.bf16_flop_per_s, chip.fp8_flop_per_s or chip.bf16_flop_per_s)
    tokens = 1 + LOADS["input_tokens"] / LOADS["output_tokens"]
    head = llm.vocab * llm.hidden_size
    work = 2 * (llm.params_active - head) * tokens
    context = LOADS["input_tokens"] + LOADS["output_tokens"] / 2
    cache = np.array([parts.kv_bytes(llm, c, bits=8) for c in context])
    bound = LOADS["n_accelerators"] * np.minimum(peak / work, chip.bandwidth_bytes_per_s / cache)
    for layout in LAYOUTS:
        assert (predict_throughput(llm, chip, layout=layout, kv_bits=8, **LOADS) <= bound).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("llm", "chip"), CASES)
def test_more_bandwidth_compute_memory_or_link_never_slows(llm, chip, layout):
    before = predict_throughput(llm, chip, layout=layout, **LOADS)
    for field in ("bandwidth_bytes_per_s", "bf16_flop_per_s", "fp8_flop_per_s", "memory_bytes", "scale_up_bytes_per_s"):
        if getattr(chip, field) is None:
            continue
        after = predict_throughput(llm, replace(chip, **{field: 1.3 * getattr(chip, field)}), layout=layout, **LOADS)
        assert (after >= before * (1 - 1e-9)).all(), field


def test_what_does_not_fit_serves_nothing():
    llm, chip = dense(), Accelerator(name="small", memory_bytes=16e9, bandwidth_bytes_per_s=1e12, bf16_flop_per_s=1e14)
    own = dict(n_accelerators=2, weight_bits=16)
    lengths = dict(input_tokens=1000, output_tokens=1000)
    for layout in LAYOUTS:
        assert predict_throughput(llm, chip, layout=layout, **own, **lengths) == 0
        latency = predict_latency(llm, chip, layout=layout, concurrency=4, **own, **lengths)
        assert latency == (np.inf, np.inf)
        assert completion_rates(llm, chip, layout=layout, **own, **lengths).size == 0
    assert max_batch(llm, chip, context_tokens=1, **own) == 0


def test_copied_attention_is_for_models_with_experts():
    llm, chip = dense(), catalog.accelerator("B200-HGX-180GB")
    own = dict(n_accelerators=8, weight_bits=8, input_tokens=1000, output_tokens=1000)
    assert predict_throughput(llm, chip, layout="dep", **own) == 0
    assert predict_throughput(llm, chip, **own) == predict_throughput(llm, chip, layout="tp", **own) > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_equal_scalars(layout):
    llm, chip = CASES[1]
    together = predict_throughput(llm, chip, layout=layout, **LOADS)
    latency = predict_latency(llm, chip, layout=layout, concurrency=16, **LOADS)
    for i in range(len(together)):
        own = {name: values[i].item() for name, values in LOADS.items()}
        assert predict_throughput(llm, chip, layout=layout, **own) == pytest.approx(together[i])
        alone = predict_latency(llm, chip, layout=layout, concurrency=16, **own)
        assert alone == pytest.approx([times[i] for times in latency])
        assert np.ndim(alone.time_per_output_token) == 0


def test_a_batch_touches_the_experts_that_chance_says():
    """With nothing else to read: one token touches k of E experts, many touch them all, 64 of 1 in 8 all but (7/8)^64."""
    attention = Attention(layers=1, q_heads=1, kv_heads=1, head_dim=1, v_head_dim=1)
    experts = Mlp(layers=1, size=4096, matrices=3, experts=8, experts_per_token=1)
    llm = counted(attention, [experts], 4096, 1)
    chip = Accelerator(name="any", memory_bytes=1e12, bandwidth_bytes_per_s=1e12)
    routed, rest = parts.params_by_use(llm).routed, llm.params_total - parts.params_by_use(llm).routed
    own = dict(n_accelerators=1, weight_bits=16, context_tokens=0, engine=ROOFLINE)
    for batch, touched in ((1, 1 / 8), (64, 1 - (7 / 8) ** 64), (1e6, 1)):
        read = 1e12 * decode_step_time(llm, chip, batch=batch, **own)
        assert read == pytest.approx(2 * (routed * touched + rest - 4096), rel=1e-6)


def test_tensor_parallel_groups_copy_what_they_cannot_split():
    chip = Accelerator(name="any", memory_bytes=1e12, bandwidth_bytes_per_s=1e12)
    own = dict(weight_bits=16, kv_bits=16, context_tokens=1e6, engine=replace(ROOFLINE, max_sequences=1e9))
    latent = Attention(layers=60, q_heads=64, head_dim=192, v_head_dim=128, latent_dim=512, rope_dim=64)
    for attention, split in ((dense().attention[0], 8), (latent, 1)):
        llm = counted(attention, [Mlp(layers=60, size=256, matrices=3)], 1024, 100)
        for n in (8, 16):
            each = (1e12 - 2 * llm.params_total / n) * 0.9
            held = parts.kv_bytes(llm, 1e6) / min(n, split)
            assert max_batch(llm, chip, n_accelerators=n, **own) == each // held


def test_prompts_in_between_dominate_the_time_per_token():
    """At equal concurrency a token takes longer the more prompt there is per answer, as measured."""
    llm, chip = catalog.llm("DeepSeek-V3"), catalog.accelerator("H200-SXM-141GB")
    own = dict(n_accelerators=8, weight_bits=8, concurrency=32, layout="tp")
    loads = [(8192, 1024), (1024, 8192)]
    times = [predict_latency(llm, chip, input_tokens=i, output_tokens=o, **own).time_per_output_token for i, o in loads]
    assert times == sorted(times, reverse=True)
    rows = validation.setups().query(
        "architecture == 'DeepSeek-V3' and concurrency == 32 and task == 'token' and n == 8"
    )
    measured = rows.groupby(["input_tokens", "output_tokens"])["value"].median()
    assert [measured[load] for load in loads] == sorted(measured[loads], reverse=True)


def test_attention_over_the_prompt_grows_with_its_square():
    llm = dense(layers=10, hidden=1024, size=16, vocab=100)
    chip = Accelerator(name="any", memory_bytes=1e12, bandwidth_bytes_per_s=1e15, bf16_flop_per_s=1e15)
    own = dict(n_accelerators=1, weight_bits=16, engine=ROOFLINE)
    short, long = (prefill_time(llm, chip, input_tokens=n, **own) for n in (1e6, 2e6))
    assert long / short == pytest.approx(4, rel=0.01)
    scores = 2 * 1e6 * 0.5e6 * 10 * 64 * 256 / 1e15
    assert short == pytest.approx(scores, rel=0.02)


def test_a_prompt_stays_on_one_chip_where_attention_is_copied():
    """Without losses the first token of a lone request takes a step and the time of one prompt on each chip."""
    llm, chip = catalog.llm("DeepSeek-V3"), catalog.accelerator("H200-SXM-141GB")
    group, loads = dict(n_accelerators=8, weight_bits=8, engine=ROOFLINE), dict(input_tokens=8192, output_tokens=1000)
    for layout, prompts in (("tp", 1), ("dep", 8)):
        own = group | {"layout": layout}
        first = predict_latency(llm, chip, concurrency=1, **own, **loads).time_to_first_token
        step = decode_step_time(llm, chip, batch=1, context_tokens=8692, **own)
        assert first == pytest.approx(step + prefill_time(llm, chip, input_tokens=8192, prompts=prompts, **own))
    assert first > 2 * parts.params_by_use(llm).attention * 8192 / chip.fp8_flop_per_s


@pytest.mark.parametrize(("llm", "chip"), CASES)
def test_completion_rates_rise_and_end_at_the_largest_batch(llm, chip):
    own = dict(n_accelerators=8, weight_bits=8, engine=Engine(stream_s=0.0))
    rates = completion_rates(llm, chip, input_tokens=500, output_tokens=300, layout="tp", **own)
    assert len(rates) == max_batch(llm, chip, context_tokens=800, **own)
    if len(rates):
        assert (np.diff(rates) >= -1e-12).all()
        most = predict_throughput(llm, chip, input_tokens=500, output_tokens=300, layout="tp", **own)
        assert 300 * rates[-1] == pytest.approx(most)


def test_waiting_for_a_place_follows_littles_law():
    llm, chip = dense(), catalog.accelerator("H200-SXM-141GB")
    own = dict(n_accelerators=1, weight_bits=8, input_tokens=1024, output_tokens=8192)
    places = max_batch(llm, chip, n_accelerators=1, weight_bits=8, context_tokens=1024 + 8192)
    served = predict_latency(llm, chip, concurrency=places, **own)
    crowded = predict_latency(llm, chip, concurrency=3 * places, **own)
    assert crowded.time_per_output_token == served.time_per_output_token
    one = served.time_to_first_token + 8192 * served.time_per_output_token
    assert crowded.time_to_first_token - served.time_to_first_token == pytest.approx(2 * one)


def test_every_model_runs_on_every_chip_of_the_catalog():
    load = dict(n_accelerators=8, weight_bits=8, input_tokens=1000, output_tokens=500)
    for name in catalog.llms()["model"]:
        for chip in catalog.accelerators()["accelerator"]:
            rate = predict_throughput(catalog.llm(name), catalog.accelerator(chip), **load)
            assert np.isfinite(rate)
            assert rate >= 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(n_accelerators=0), "n_accelerators = 0"),
        (dict(n_accelerators=1.5), "n_accelerators = 1.5"),
        (dict(weight_bits=-8), "weight_bits = -8"),
        (dict(kv_bits=np.nan), "kv_bits = nan"),
        (dict(input_tokens=0), "input_tokens = 0"),
        (dict(output_tokens=[10, -1]), "output_tokens = -1"),
        (dict(layout="ring"), "layout = 'ring'"),
    ],
)
def test_bad_input_is_named(call, message):
    good = dict(n_accelerators=1, weight_bits=8, input_tokens=100, output_tokens=100)
    with pytest.raises(ValueError, match=message):
        predict_throughput(dense(), catalog.accelerator("H200-SXM-141GB"), **(good | call))


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match="bandwidth = 1.2"):
        Engine(bandwidth=1.2)


def test_the_capacity_cliff_is_reproduced():
    """Llama-3-70B at 8 bits on one chip: 464 tokens/s with 80 GB, 2,594 with 141 GB and 1.43 times the bandwidth."""
    own = dict(
        n_accelerators=1, weight_bits=8, input_tokens=1000, output_tokens=1000, engine=ENGINES["TensorRT-LLM 2024"]
    )
    llm = catalog.llm("Meta-Llama-3.1-70B")
    for chip, measured in (("H100-SXM-80GB", 464.5), ("H200-SXM-141GB", 2594.2)):
        assert predict_throughput(llm, catalog.accelerator(chip), **own) == pytest.approx(measured, rel=0.25)


def test_deepseeks_day_adds_up():
    """The published day as an identity: tokens, nodes and prices give its cost, its income and its margin."""
    day = {p: catalog.fact("deepseek_day", "DeepSeek V3/R1 | 2025-02-27", p) for p in
           catalog.facts("deepseek_day")["parameter"]}  # fmt: skip
    value = {name: row.value for name, row in day.items()}
    cost = value["nodes_mean"] * 8 * 24 * value["gpu_hour_price"]
    assert cost == pytest.approx(value["daily_cost"], rel=1e-3)
    missed = value["input_tokens"] - value["cached_input_tokens"]
    income = (
        value["cached_input_tokens"] * value["price_cached_input"]
        + missed * value["price_input"]
        + value["output_tokens"] * value["price_output"]
    ) / 1e6
    assert income == pytest.approx(value["daily_income"], rel=5e-3)
    assert value["daily_income"] / value["daily_cost"] - 1 == pytest.approx(value["cost_margin"], rel=1e-3)


def test_every_constant_lies_in_its_interval():
    rows = catalog.facts("inference_constants").set_index(["item", "parameter"])
    units = {"layer_s": 1e-6, "latent_s": 1e-6, "stream_s": 1e-6, "request_s": 1e-3, "reserve_bytes": 1e9}
    for (item, name), row in rows.iterrows():
        engine = Engine() if item == "recent engines" else ENGINES[item]
        assert row.low <= getattr(engine, name) / units.get(name, 1) <= row.high, (item, name)
    fitted = {*calibrate.FREE, *calibrate.FIRST_FREE}
    assert fitted <= set(rows.loc["recent engines"].index)


def recorded():
    return catalog.inference_errors()


def test_the_recorded_errors_belong_to_the_measured_rows():
    table, errors = validation.setups(), recorded()
    for column in ("task", "model", "accelerator", "n", "input_tokens", "output_tokens"):
        assert errors[column].tolist() == table[column].tolist()
    fitted = np.log(validation.predict(table) / table["value"])
    np.testing.assert_allclose(np.clip(fitted, -3, 3), errors["fitted"], atol=2e-3)


def test_rows_with_a_majority_in_line_count_those_that_are_served():
    """512 requests wait 462 s for 8,192 tokens 14.8 ms apart: 121 s of service in 583 s, so 106 are served."""
    rows = validation.setups().query("task == 'token'")
    busy = rows["output_tokens"] * rows["value"]
    share = busy / (rows["time_to_first_token"] + busy)
    lined = share < 0.5
    assert 0 < lined.sum() < 0.02 * len(rows)
    np.testing.assert_allclose(rows["concurrency"][lined], (rows["in_flight"] * share)[lined])
    assert (rows["concurrency"] == rows["in_flight"])[~lined].all()
    longest = rows.loc[rows["time_to_first_token"].idxmax()]
    assert longest["in_flight"] == 512
    assert longest["concurrency"] == pytest.approx(512 * 121.0 / (121.0 + 462.05), rel=1e-3)
    shortest = rows.loc[rows["time_to_first_token"].idxmin()]
    assert shortest["concurrency"] == shortest["in_flight"]


def test_the_first_token_is_predicted_with_all_that_clients_sent():
    rows = validation.setups().query("task == 'token' and concurrency < in_flight")
    nominal = validation.predict_first(rows.assign(concurrency=rows["in_flight"]))
    assert validation.predict_first(rows).tolist() == nominal.tolist()
    fewer = validation.predict_first(rows.assign(in_flight=rows["concurrency"]))
    assert (fewer <= nominal).all()
    assert (fewer < nominal).any()


@pytest.mark.slow
def test_a_refit_returns_the_constants():
    found = calibrate.fit(validation.setups(), steps=10)
    for name, engine in found.items():
        for field in dataclasses.fields(Engine):
            expected = getattr(ENGINES[name], field.name)
            assert getattr(engine, field.name) == pytest.approx(expected, rel=0.02), (name, field.name)


@pytest.mark.slow
@pytest.mark.parametrize(("by", "group"), [("architecture", "gpt-oss-120b"), ("accelerator", "H200-SXM-141GB")])
def test_left_out_errors_are_recomputed(by, group):
    table = validation.setups()
    own = (table[by] == group).to_numpy()
    predicted = calibrate.left_out(table, ENGINES, by, groups=[group])[own]
    error = np.log(predicted / table["value"][own])
    assert np.abs(np.clip(error, -3, 3) - recorded()[f"without_{by}"][own]).mean() < 0.02


@pytest.mark.slow
def test_what_software_makes_of_an_amd_chip_is_what_its_rows_say():
    chip = catalog.accelerator("MI300X")
    found = calibrate.fit_chip(validation.setups().query("accelerator == 'MI300X'"), ENGINES)
    assert found == pytest.approx((chip.layer_overhead, chip.link_share), rel=0.05)


#: Acceptance: largest mean error of predictions on the rows of the measured series, %.
ACCEPTED = [
    ("throughput", False, "recent", 10),
    ("throughput", True, "recent", 20),
    ("throughput", False, "2024", 25),
    ("token", False, "recent", 15),
    ("token", True, "recent", 20),
    ("batch", False, "recent", 12),
]


@pytest.mark.parametrize(("task", "experts", "age", "most"), ACCEPTED)
def test_errors_on_the_measured_rows_are_within_what_was_asked(task, experts, age, most):
    table, errors = validation.setups(), recorded()
    old = table["software"].str.endswith("2024") == (age == "2024")
    rows = (table["task"] == task) & (table["model"].map(validation.has_experts) == experts) & old
    assert 100 * np.abs(np.expm1(errors["fitted"][rows])).mean() <= most
    left_out = errors.loc[rows, [f"without_{by}" for by in validation.GROUPS]]
    assert (100 * np.abs(np.expm1(left_out)).mean() <= 1.5 * most).all()


def test_no_measured_row_enters_a_prediction():
    """The module knows parts and units alone: it could not look a measurement up."""
    import econmodel.inference as module

    text = Path(module.__file__).read_text(encoding="utf-8")
    assert "catalog" not in text
    assert "import pandas" not in text
