"""Features in 16 bits, in TF32 or compiled; and everything made of them in the weights' own precision."""

from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from hierlit.cli import main
from hierlit.data import CellularAutomaton
from hierlit.data.base import HierarchyDataModule
from hierlit.files.weights import load_weights, save_weights
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.models import GaussianFeatures, HierarchicalResNet, Window1d, random_features
from hierlit.models.first_layer import TILE
from hierlit.models.random_features import CompileError
from hierlit.training import LayerwiseTask, LayerwiseTraining
from hierlit.training.precision import check_precision, rounding_of

SOLVERS: dict[str, Callable[[], Solver]] = {"exact": ExactSolver, "gradient": GradientSolver}
SOFTPLUS = GaussianFeatures(activation="softplus")
CONF = Path(__file__).parents[1] / "conf"
every_solver = pytest.mark.parametrize("solver", SOLVERS)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def xor_task(solver: str = "exact", **arguments: object) -> LayerwiseTask:
    return LayerwiseTask(6, 3, **{"n_blocks": 2, "n_features": 60, "solver": SOLVERS[solver](), **arguments})


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def rounded_rows(task: LayerwiseTask, data: HierarchyDataModule, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features with a last constant one, scores before a block and labels of the fitted rows, in float64 with the
    roundings to bfloat16 that the features are defined by."""
    table = data.tables["train"]
    inputs, labels = table.inputs[data.fit_rows, 0].double(), table.labels[data.fit_rows, 0].double()
    scores = torch.zeros_like(labels)
    for index in range(block + 1):
        drawn = task.net.block(index).features
        # the stream is float32, and rounded to 16 bits from there
        windows = torch.cat([inputs, scores], 1).float().bfloat16().double()
        weight = (drawn.weight * drawn.scale).bfloat16().double()
        raw = (windows @ weight.T + drawn.bias.bfloat16().double()).bfloat16().double().clamp(min=0)
        features = (raw - drawn.mean.bfloat16().double()).bfloat16().double()
        features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
        if index < block:
            scores = scores + features @ task.net.block(index).weight.double().T
    return features, scores, labels


class Watch(L.Callback):
    """Notes after every pass how features are kept, what is made of them, and what is known of the block."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.kept: list[Tensor | None] = []
        self.dtypes: set[torch.dtype] = set()
        self.dtype = dtype

    def on_train_batch_end(self, trainer: L.Trainer, task: LayerwiseTask, *_: object) -> None:
        if task.last is None:
            return
        chunks, block = list(task.rows.chunks("fit")), task.net.frozen_block(task.block)
        self.kept = [chunk.features for chunk in chunks]
        (scores, *_), penalty = next(task.rows.tiles(chunks[0], block)), task.last.state.penalty
        problem = BlockProblem(block, task.rows, task.loss, penalty)
        self.moments = problem.moments(self.dtype)
        made = [scores, chunks[0].stream, task.last.state.weight, problem.evaluate(problem.zeros()).terms]
        self.dtypes |= {tensor.dtype for tensor in (*made, self.moments.gram)}
        self.penalty, self.certificate = penalty.double(), task.last.certificate


@pytest.fixture
def matmul_precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@every_solver
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_a_hierarchy_is_learned_in_every_precision(solver: str, precision: str, fit) -> None:
    data = CellularAutomaton(n_levels=2, n_cells=16, n_train=100, n_val=40, n_test=10, batch_size=50)
    task = LayerwiseTask(1, 2, 16, proximity=Window1d(3), n_blocks=3, n_features=100, solver=SOLVERS[solver]())
    fit(task, data, precision=precision)
    assert (task.results["val"]["accuracy"] >= 0.999).all()
    assert task.report.gradient_norm <= task.report.gradient_tolerance


@pytest.mark.parametrize(("n_levels", "n_features"), [(4, 200), pytest.param(6, 250, marks=pytest.mark.slow)])
def test_deep_adaptive_blocks_learn_in_bfloat16_what_they_learn_in_float32(n_levels: int, n_features: int, fit) -> None:
    n_train = 50 * n_levels
    learned = {}
    for precision in ("32-true", "bf16-mixed"):
        data = CellularAutomaton(
            n_levels=n_levels, n_cells=16, n_train=n_train, n_val=40, n_test=10, batch_size=n_train
        )
        arguments = {"n_features": n_features, "features": SOFTPLUS, "adaptation": AdaptiveDraw()}
        task = LayerwiseTask(
            1, n_levels, 16, n_blocks=n_levels * 4 // 3, proximity=Window1d(3), solver=ExactSolver(), **arguments
        )
        fit(task, data, precision=precision)
        learned[precision] = task.results["val"]["accuracy"]
    assert (learned["32-true"] >= 0.999).all()
    assert (learned["bf16-mixed"] >= 0.999).all()


@every_solver
def test_only_features_have_16_bits(solver: str, fit, xors) -> None:
    watch, task = Watch(), xor_task(solver)
    fit(task, xors(), watch, precision="bf16-mixed")
    assert {kept.dtype for kept in watch.kept} == {torch.bfloat16}
    # float64 are the sums over chunks
    assert watch.dtypes == {torch.float32, torch.float64}
    certificate = watch.certificate
    kinds = {part.dtype for part in (certificate.objective, certificate.gradient_norm, certificate.modulus)}
    assert kinds <= {torch.float32, torch.float64}
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}
    assert task(torch.ones(2, 1, 6)).dtype == torch.float32


@every_solver
def test_the_certified_gradient_is_that_of_the_rounded_features_in_float64(solver: str, fit, xors) -> None:
    data, task, watch = xors(), xor_task(solver, n_blocks=2), Watch()
    fit(task, data, watch, precision="bf16-mixed", acceptance="none")
    features, scores, labels = rounded_rows(task, data, 1)
    weight, regularization = task.net.block(1).weight.double(), watch.penalty
    margins = (scores + features @ weight.T) * labels
    gradient = ((margins - 1) * labels).T @ features / len(labels) + regularization[:, None] * weight
    norm, certified = gradient.norm(dim=1), watch.certificate.gradient_norm
    assert float(certified.norm()) <= task.report.gradient_tolerance
    torch.testing.assert_close(certified, norm, rtol=1e-3, atol=1e-6)
    objective = ((margins - 1).square() / 2).mean(0) + regularization / 2 * weight.square().sum(1)
    torch.testing.assert_close(watch.certificate.objective, objective, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (None, 2e-6)])
def test_gram_matrices_are_sums_of_exact_products(dtype: torch.dtype | None, tolerance: float, fit, xors) -> None:
    data, task, watch = xors(1000), xor_task(n_blocks=1), Watch(dtype)
    fit(task, data, watch, precision="bf16-mixed")
    inputs = data.tables["train"].inputs[data.fit_rows]
    features = task.net.features_of(task.net.embed(inputs), 0).flatten(0, 1)
    assert features.dtype == torch.bfloat16
    gram = features.double().T @ features.double() / len(features)
    error = (watch.moments.gram[:-1, :-1] - gram).abs().max() / gram.diagonal().max()
    assert float(error) < tolerance
    assert float((features.T @ features / len(features) - gram).abs().max() / gram.diagonal().max()) > 1e-3


@every_solver
@pytest.mark.filterwarnings("ignore:block . stopped at max epochs")
def test_kept_and_recomputed_features_give_the_same_weights_to_the_last_bit(solver: str, fit, xors, monkeypatch):
    monkeypatch.setitem(TILE, "cpu", 60 * 32)
    states, kept = [], []
    for budget in (1.0, 0.0):
        task, watch = xor_task(solver, cache_budget_gib=budget, adaptation=AdaptiveDraw(n_pairs=100)), Watch()
        fit(task, xors(missing=0.2, batch_size=100), watch, precision="bf16-mixed", max_epochs_per_block=8)
        states.append(task.state_dict())
        kept.append({features is not None for features in watch.kept})
    assert kept == [{True}, {False}]
    assert states[0]["net.blocks.1.weight"].any()
    assert same(*states)


def test_kept_features_take_half_the_memory(fit, xors) -> None:
    sizes, streams = {}, 300 * (6 + 3 + 3) * 4
    for precision in ("32-true", "bf16-mixed"):
        # enough for all features in 16 bits
        task, watch = xor_task(n_blocks=1, cache_budget_gib=(streams + 300 * 60 * 2) / 2**30), Watch()
        fit(task, xors(batch_size=30), watch, precision=precision)
        n_pairs = sum(len(chunk) for chunk in watch.kept if chunk is not None)
        sizes[precision] = n_pairs, sum(chunk.nbytes for chunk in watch.kept if chunk is not None)
    assert sizes["bf16-mixed"] == (216, 216 * 60 * 2)
    assert 0 < sizes["32-true"][0] <= 150
    assert sizes["32-true"][1] == sizes["32-true"][0] * 60 * 4


@every_solver
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_products_are_in_float32_whatever_torch_is_told(
    solver: str, precision: str, fit, xors, matmul_precision
) -> None:
    states = []
    for allowed in ("highest", "medium"):
        torch.set_float32_matmul_precision(allowed)
        task = xor_task(solver)
        trainer = fit(task, xors(), precision=precision)
        assert trainer.precision == precision
        assert torch.get_float32_matmul_precision() == allowed
        states.append(task.state_dict())
    assert same(*states)


def test_torch_is_told_what_it_was_told_before_after_an_error_too(fit, xors, matmul_precision) -> None:
    class Failing(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
            assert torch.get_float32_matmul_precision() == "highest"
            raise KeyError("on purpose")

    torch.set_float32_matmul_precision("high")
    with pytest.raises(KeyError, match="on purpose"):
        fit(xor_task(), xors(), Failing())
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has but one setting")
def test_torch_may_have_been_told_of_one_backend_alone(fit, xors, matmul_precision) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    fit(xor_task(), xors())
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def evaluate(task: LayerwiseTask, data: HierarchyDataModule, precision: str) -> Tensor:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", precision=precision, **quiet)
    return torch.cat(trainer.predict(task, data.test_dataloader()))


@pytest.mark.parametrize(("precision", "tf32"), [("bf16-mixed", False), ("32-true", True)])
def test_rounding_travels_with_the_weights(precision: str, tf32: bool, fit, xors, tmp_path: Path) -> None:
    data, task = xors(), xor_task(tf32=tf32)
    fit(task, data, precision=precision).save_checkpoint(tmp_path / "trained.ckpt")
    assert task.net.rounding == rounding_of(precision, tf32) != None  # noqa: E711
    scores = task(data.tables["test"].inputs)
    again = LayerwiseTask.load_from_checkpoint(tmp_path / "trained.ckpt", tf32=False)
    assert torch.equal(again(data.tables["test"].inputs), scores)
    for other in ("32-true", "bf16-mixed"):
        torch.testing.assert_close(evaluate(again, data, other), scores, rtol=0, atol=1e-5)
    save_weights(task.net, tmp_path / "net.safetensors")
    net = HierarchicalResNet(6, 3, n_blocks=2, n_features=60)
    load_weights(net, tmp_path / "net.safetensors")
    assert torch.equal(net(data.tables["test"].inputs), scores)
    task.net.rounding = None
    assert not torch.equal(task(data.tables["test"].inputs), scores)


def test_blocks_of_one_rounding_are_not_trained_on_with_another(fit, xors, tmp_path: Path) -> None:
    data, task = xors(), xor_task(n_blocks=3)
    fit(task, data, precision="bf16-mixed", max_epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    assert task.block == 1
    with pytest.raises(ValueError, match="trained so far: features rounded to bfloat16, got None") as error:
        fit(task, data)
    assert "\n" not in str(error.value)
    fit(task, data, precision="bf16-mixed")
    assert task.block == 3
    resumed = xor_task(n_blocks=3)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=-1, callbacks=[LayerwiseTraining()], **quiet)
    with pytest.raises(ValueError, match="rounded to bfloat16, got None"):
        trainer.fit(resumed, datamodule=data, ckpt_path=tmp_path / "one.ckpt", weights_only=True)


def test_a_network_knows_what_it_may_be_rounded_to() -> None:
    net = HierarchicalResNet(2, 1, n_blocks=2, n_features=3)
    with pytest.raises(ValueError, match=r"rounding must be None or one of bfloat16, float16, tf32, got 'int8'"):
        net.rounding = "int8"
    net.rounding = "float16"
    assert {net.block(index).features.dtype for index in (0, 1)} == {torch.float16}


@pytest.mark.parametrize("precision", ["16-mixed", "16", "16-true", "bf16-true", "transformer-engine"])
def test_a_precision_that_a_cpu_has_not_is_refused_in_one_line(precision: str) -> None:
    valid = "trainer.precision must be one of 32-true, 64-true, bf16-mixed on cpu, got"
    with pytest.raises(ValueError, match=f"^{valid} {precision}$"):
        check_precision(precision, torch.device("cpu"))


@pytest.mark.parametrize("precision", [None, 32, "64", "bf16", "bf16-mixed", 16, "16-mixed"])
def test_a_gpu_has_them_all_under_any_of_their_names(precision: str | int | None) -> None:
    check_precision(precision, torch.device("cuda"))


@pytest.mark.parametrize("command", ["fit", "plan"])
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true"])
def test_the_command_line_refuses_it_before_any_work(
    command: str, precision: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        arguments = ["--trainer.precision", precision, "--trainer.accelerator", "cpu"]
        main([command, "--config", str(CONF / "automaton.yaml"), *arguments])
    assert exit_info.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == f"error: trainer.precision must be one of 32-true, 64-true, bf16-mixed on cpu, got {precision}"


def test_a_precision_is_refused_by_the_callback_too(fit, xors) -> None:
    with pytest.raises(ValueError, match=r"trainer\.precision must be one of .* on cpu, got bf16-true"):
        fit(xor_task(), xors(), precision="bf16-true")


def test_a_plan_knows_how_features_are_kept(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rates = ["--plan.flops", "1e12", "--plan.factor_flops", "1e11", "--plan.bandwidth", "1e11"]
    run = main(["plan", "--config", str(CONF / "automaton.yaml"), *rates, "--trainer.precision", "bf16-mixed"]).planned
    assert (run.dtype, run.features) == (torch.float32, torch.bfloat16)


def test_tf32_leaves_ten_bits_of_a_fraction() -> None:
    exact = torch.tensor([0.0, 1.0, -1.0, 1 + 2.0**-10, 1.5, -3.25e-12, float("inf"), float("-inf")])
    exact[5] = random_features.rounded_to_tf32(exact[5:6])
    assert torch.equal(random_features.rounded_to_tf32(exact), exact)
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    rounded = random_features.rounded_to_tf32(values)
    assert float(((rounded - values) / values).abs().max()) <= 2.0**-11
    assert not (rounded.view(torch.int32) & 0x1FFF).any()
    assert random_features.rounded_to_tf32(torch.tensor([float("nan")])).isnan().all()


def test_torch_may_use_tf32_for_the_features_product_alone(matmul_precision) -> None:
    torch.set_float32_matmul_precision("highest")
    with random_features.tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(KeyError), random_features.tf32_products(True):
        raise KeyError
    with random_features.tf32_products(False):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_failure_to_compile_is_one_line(fit, xors, monkeypatch) -> None:
    def broken() -> Callable[..., Tensor]:
        def fail(*arguments: object) -> Tensor:
            raise torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: no compiler\nmore\n\nand more")

        return fail

    monkeypatch.setattr(random_features, "compiled_features", broken)
    with pytest.raises(CompileError) as error:
        fit(xor_task(compile=True), xors())
    expected = "model.compile must be false where torch.compile fails, got true: InvalidCxxCompiler: no compiler"
    assert str(error.value) == expected


def test_what_is_asked_of_torch_compile_is_no_part_of_a_checkpoints_weights(fit, xors, tmp_path: Path) -> None:
    data, task = xors(), xor_task()
    fit(task, data).save_checkpoint(tmp_path / "trained.ckpt")
    again = LayerwiseTask.load_from_checkpoint(tmp_path / "trained.ckpt", compile=True)
    assert again.net.block(1).features.compiled
    assert same(task.state_dict(), again.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_compiled_features_are_those_that_are_not(precision: str, fit, xors, tmp_path: Path) -> None:
    data, task = xors(1000), xor_task(compile=True, features=SOFTPLUS)
    fit(task, data, precision=precision).save_checkpoint(tmp_path / "compiled.ckpt")
    assert (task.results["val"]["accuracy"] == 1).all()
    again = LayerwiseTask.load_from_checkpoint(tmp_path / "compiled.ckpt", compile=False)
    inputs = data.tables["test"].inputs
    features = task.net.features_of(task.net.embed(inputs), 0), again.net.features_of(again.net.embed(inputs), 0)
    if precision == "bf16-mixed":
        assert float((features[0] != features[1]).double().mean()) < 1e-3
    else:
        torch.testing.assert_close(*features, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(task(inputs), again(inputs), rtol=0, atol=1e-2)


@pytest.mark.slow
def test_all_blocks_and_numbers_of_rows_share_one_compiled_function(xors) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    random_features.compiled_features.cache_clear()
    counters.clear()
    net = HierarchicalResNet(4, 2, n_blocks=3, n_features=10)
    net.compile_features()
    with torch.no_grad():
        for index in range(3):
            for n_rows in (7, 50, 33):
                net.block(index).features(torch.randn(n_rows, 6))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.gpu
@on_cuda
@every_solver
@pytest.mark.parametrize(
    ("precision", "tf32"), [("32-true", False), ("32-true", True), ("bf16-mixed", False), ("16-mixed", False)]
)
def test_a_gpu_learns_in_every_precision(solver: str, precision: str, tf32: bool, xors) -> None:
    data, task = xors(1000), xor_task(solver, tf32=tf32)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        accelerator="auto", devices=1, precision=precision, max_epochs=-1, callbacks=[LayerwiseTraining()], **quiet
    )
    trainer.fit(task, datamodule=data)
    assert (task.results["val"]["accuracy"] == 1).all()
    # of one rounding on every device
    gpu = task.cuda()(data.tables["test"].inputs.cuda()).cpu()
    torch.testing.assert_close(task.cpu()(data.tables["test"].inputs), gpu, rtol=0, atol=1e-2)
