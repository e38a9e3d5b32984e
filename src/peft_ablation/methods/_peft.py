"""What all methods of the PEFT library share: building, state, saving, loading, merging.

Mangrulkar et al., PEFT (https://github.com/huggingface/peft). The traps handled here were measured:
each has a test in `tests/unit/methods/test_methods.py`.
"""

import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from peft_ablation.artifacts import read_json, write_json
from peft_ablation.bases.architectures import Architecture, model_architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import Method
from peft_ablation.methods._modules import within

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import Batches, LoadModel

ADAPTER: Final = "default"
_DECOMPOSING: Final = ("pissa", "olora")
"""Initialisations that move a part of the base's weights into the adapter."""
_IMPORTANCE: Final = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_EVA_LIMIT: Final = 1000
"""Forward passes after which EVA is taken not to converge."""


class PeftMethod(Method):
    """Adapters that PEFT puts on a frozen base."""

    libraries: ClassVar[tuple[str, ...]] = ("peft",)

    def __init__(self, arm: Mapping[str, Any]) -> None:
        """Bind to an arm's settings."""
        super().__init__(arm)
        self._initial: dict[str, Tensor] = {}
        """A and B before the first step, where they were taken out of the base's weights."""

    @abstractmethod
    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `PeftConfig` for a built model and a run of so many steps."""

    @property
    def merges(self) -> bool:
        """Whether the trained adapter can become part of the base's weights."""
        return True

    def also_trained(self, architecture: Architecture) -> list[str]:
        """Return modules that are trained and saved whole, beside the task's heads."""
        return []

    # -- building --------------------------------------------------------------------------------

    def apply(
        self,
        model: "nn.Module",
        *,
        seed: int,
        heads: Sequence[str],
        steps: int,
        batches: "Batches",
        state: "Mapping[str, Tensor] | None" = None,
    ) -> "nn.Module":
        """Return `model` wrapped by PEFT; the base is frozen, heads are trained copies."""
        import torch
        from peft import get_peft_model

        architecture = model_architecture(model)
        self.check(architecture)
        with _one_line(self.arm["method"]):
            config = self.config(architecture, steps)
        _save_whole(config, model, [*heads, *self.also_trained(architecture)])
        found = _parts(state or {})
        initial = getattr(config, "init_lora_weights", None)
        self._initial = found.get("initial", {})
        if "rank" in found:
            _take_ranks(config, found["rank"], found["alpha"])
        if self._initial:
            config.init_lora_weights = True
        torch.manual_seed(seed)
        with _one_line(self.arm["method"]), quiet():
            adapted: Any = get_peft_model(model, config)
        _refuse_left_out(adapted, config, architecture)
        if self._initial:
            config.init_lora_weights = initial
            _subtract(adapted, self._initial)
        elif str(initial).startswith(_DECOMPOSING):
            self._initial = _lora_matrices(adapted)
        if initial == "eva" and "rank" not in found:
            _initialise_eva(adapted, config, batches)
        _restore_allocator(adapted, found)
        _cut_virtual_tokens(adapted, config)
        result: nn.Module = adapted
        return result

    def start_from(self, model: "nn.Module", folder: str | Path, heads: Sequence[str]) -> None:
        """Copy another run's adapter, but for the heads."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors.torch import load_file

        if self._initial:
            raise InputError(
                f"init_from: init {self.arm.get('init')} takes the first adapter out of the base, "
                "so that another run's would not fit it; set init to default"
            )
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
        saved = load_file(Path(folder, "adapter_model.safetensors"))
        copied = {key: value for key, value in saved.items() if not _of_head(key, heads)}
        wanted = {key: value for key, value in own.items() if not _of_head(key, heads)}
        odd = sorted(copied.keys() ^ wanted.keys()) or [
            key for key in copied if copied[key].shape != wanted[key].shape
        ]
        if odd:
            raise InputError(
                f"init_from: the adapter in {folder} does not fit the arm: {len(odd)} tensors "
                f"differ, first {odd[0]!r}; give both arms the same method, targets and rank"
            )
        set_peft_model_state_dict(model, {**own, **copied})

    # -- a step ----------------------------------------------------------------------------------

    def extra_loss(self, model: "nn.Module") -> "Tensor | None":
        """Return AdaLoRA's orthogonality term, which PEFT adds to the loss of its own forward."""
        import torch

        config: Any = model.peft_config[ADAPTER]  # type: ignore[index]
        weight = getattr(config, "orth_reg_weight", 0.0)
        if not weight:
            return None
        distances = []
        for name, matrix in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
                identity = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
                distances.append(torch.linalg.matrix_norm(gram - identity))
        mean: Tensor = torch.stack(distances).mean()
        return weight * mean

    def after_step(self, model: "nn.Module", step: int) -> None:
        """Let AdaLoRA move its ranks; it reads the gradients of the step."""
        tuner: Any = model.base_model
        allocator = _allocator(model)
        if allocator is None:
            return
        device = next(iter(model.parameters())).device
        for table in _IMPORTANCE:  # a resumed run has them on the CPU
            held = getattr(allocator, table)
            setattr(allocator, table, {name: value.to(device) for name, value in held.items()})
        tuner.update_and_allocate(step + 1)

    # -- checkpoints -----------------------------------------------------------------------------

    def state(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Return what AdaLoRA, EVA and decomposing initialisations hold outside of parameters.

        Keys: `ipt.`, `exp_avg_ipt.`, `exp_avg_unc.` (as the parameter) and `kept.` (bool, one a
        rank) of AdaLoRA; `rank.` (int64) and `alpha.` (float64) by module of EVA; `initial.`, the
        adapter before the first step, of PiSSA and OLoRA.
        """
        import torch

        config: Any = model.peft_config[ADAPTER]  # type: ignore[index]
        held: dict[str, Tensor] = {f"initial.{k}": v for k, v in self._initial.items()}
        allocator = _allocator(model)
        if allocator is not None:
            for table in _IMPORTANCE:
                for name, value in getattr(allocator, table).items():
                    held[f"{table}.{name}"] = value.detach().cpu().contiguous()
            for name, kept in (config.rank_pattern or {}).items():
                held[f"kept.{name}"] = torch.tensor(kept, dtype=torch.bool)
        if getattr(config, "init_lora_weights", None) == "eva":
            for name, layer in _lora_layers(model):
                held[f"rank.{name}"] = torch.tensor(layer.r[ADAPTER])
                alpha = float(layer.lora_alpha[ADAPTER])
                held[f"alpha.{name}"] = torch.tensor(alpha, dtype=torch.float64)
        return held

    # -- the result ------------------------------------------------------------------------------

    def save(self, model: "nn.Module", folder: str | Path) -> None:
        """Write the adapter with `save_pretrained`; decomposing ones become plain LoRA of rank 2r.

        A resized vocabulary is not saved: PEFT would write both embeddings, and the result would
        not load onto the plain base.
        """
        wrapped: Any = model
        config = wrapped.peft_config[ADAPTER]
        kept = getattr(config, "rank_pattern", None)
        weights = _with_initial(wrapped, self._initial) if self._initial else None
        with quiet():
            wrapped.save_pretrained(
                folder, save_embedding_layers=False, **({"state_dict": weights} if weights else {})
            )
        if kept is not None:
            # Saving takes the adapter's name out of AdaLoRA's pattern; training goes on with it.
            config.rank_pattern = kept
        Path(folder, "README.md").unlink(missing_ok=True)
        written = read_json(Path(folder, "adapter_config.json"))
        if self._initial:
            written["init_lora_weights"] = True
            scale = 2**0.5 if config.use_rslora else 2
            written["r"], written["lora_alpha"] = 2 * config.r, scale * config.lora_alpha
            for key, factor in (("rank_pattern", 2), ("alpha_pattern", scale)):
                written[key] = {name: factor * own for name, own in written[key].items()}
        write_json(Path(folder, "adapter_config.json"), _sorted_lists(written))

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the base with the adapter, merged where the method can be."""
        from peft import PeftModel

        with quiet():
            adapted: Any = PeftModel.from_pretrained(load_model(base), str(folder))
            if self.merges:
                whole: nn.Module = merged(adapted)
                return whole
        _cut_virtual_tokens(adapted, adapted.peft_config[ADAPTER])
        result: nn.Module = adapted
        return result

    def loading(self, class_name: str) -> str:
        """Return the Python that loads a saved `folder` onto the `base`."""
        return f"PeftModel.from_pretrained({class_name}.from_pretrained(base), folder)"


@contextmanager
def _one_line(method: str) -> Iterator[None]:
    """Turn what PEFT says about settings it cannot have into one line."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            said = f"{type(error).__name__}: {said}"
        raise InputError(f"method {method}: PEFT refuses these settings: {said}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what PEFT warns of and this package has settled."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        warnings.filterwarnings("ignore", message="lora with eva initialization used with")
        warnings.filterwarnings("ignore", message="Could not find a config file in")
        yield


def _save_whole(config: Any, model: "nn.Module", modules: Sequence[str]) -> None:
    """Name modules to be trained and saved whole; PEFT goes by the end of a name, this does not."""
    if not modules:
        return
    if not hasattr(config, "modules_to_save"):
        raise InputError(
            f"method: {config.peft_type.value} cannot train the task's head {modules[0]!r}; choose "
            "another method"
        )
    names = [name for name, _ in model.named_modules()]
    for module in modules:
        odd = [name for name in names if name.endswith(module) and name not in modules]
        if odd or module not in names:
            raise InputError(
                f"method: the head {module!r} cannot be saved with an adapter: "
                + (f"PEFT would take {odd[0]!r} too" if odd else "the base has no such module")
                + "; choose full, bitfit, last_layers or head_only"
            )
    config.modules_to_save = sorted({*(config.modules_to_save or ()), *modules})


def _refuse_left_out(model: Any, config: Any, architecture: Architecture) -> None:
    """Refuse targets that PEFT passes over without a word, such as convolutions of OSF."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    expression = getattr(config, "target_modules", None)
    if not isinstance(expression, str):
        return
    for module in architecture.modules:
        if re.fullmatch(expression, module.name) and not isinstance(
            model.base_model.model.get_submodule(module.name), BaseTunerLayer
        ):
            raise InputError(
                f"targets: {config.peft_type.value} leaves {module.name}, a {module.kind}, as it "
                "is; choose other targets or another method"
            )


def _parts(state: "Mapping[str, Tensor]") -> "dict[str, dict[str, Tensor]]":
    """Return a checkpoint's state by the first word of its keys."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts


def _of_head(key: str, heads: Sequence[str]) -> bool:
    # Adapters wrap the base in two modules, virtual tokens in one.
    return any(within(key.removeprefix(f"base_model.{more}"), heads) for more in ("model.", ""))


# -- initial values that take part of the base, or look at data ----------------------------------


def _lora_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the LoRA layers by the name of the module they adapt."""
    from peft.tuners.lora import LoraLayer

    inner = model.base_model.model
    return [(n, module) for n, module in inner.named_modules() if isinstance(module, LoraLayer)]


def _lora_matrices(model: Any) -> "dict[str, Tensor]":
    """Return copies of A and B of each LoRA layer: `<module>.A` and `<module>.B`."""
    return {
        f"{name}.{letter}": matrices[ADAPTER].weight.detach().cpu().clone().contiguous()
        for name, layer in _lora_layers(model)
        for letter, matrices in (("A", layer.lora_A), ("B", layer.lora_B))
    }


def _subtract(model: Any, initial: "Mapping[str, Tensor]") -> None:
    """Take the first adapter out of the base again, as its initialisation did, without an SVD.

    A decomposition done anew would need the same seed, threads and device to give the same bits.
    """
    for name, layer in _lora_layers(model):
        base = layer.get_base_layer().weight
        a, b = (initial[f"{name}.{letter}"].to(base.device) for letter in "AB")
        taken = layer.scaling[ADAPTER] * b @ a
        taken = taken.T if layer.fan_in_fan_out else taken
        # Not in place: the file behind the weights is left alone.
        base.data = (base.data.float() - taken).to(base.dtype)


def _with_initial(model: Any, initial: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the weights with adapters of twice the rank: AB - A₀B₀ is what was learnt.

    It is what PEFT's `path_initial_model_for_weight_conversion` does, but leaves the model alone.
    """
    import torch

    weights: dict[str, Tensor] = model.state_dict()
    for name, _ in _lora_layers(model):
        for letter, axis, sign in (("A", 0, 1), ("B", 1, -1)):
            key = f"base_model.model.{name}.lora_{letter}.{ADAPTER}.weight"
            first = initial[f"{name}.{letter}"].to(weights[key].device)
            weights[key] = torch.cat([weights[key], sign * first], dim=axis)
    return weights


class _TrainingBatches:
    """The training batches, again and again, as PEFT's EVA asks for them."""

    def __init__(self, batches: "Batches") -> None:
        self.batches = batches

    def __len__(self) -> int:
        return 1  # PEFT asks whether there is any

    def __iter__(self) -> "Iterator[_TrainingBatch]":
        while True:
            yield from map(_TrainingBatch, self.batches())


class _TrainingBatch:
    """A forward pass on a training batch, to be made once."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def to(self, device: Any) -> "_TrainingBatch":
        return self

    def __deepcopy__(self, memo: Any) -> "_TrainingBatch":
        return self


def _initialise_eva(model: Any, config: Any, batches: "Batches") -> None:
    """Put the main directions of each layer's inputs on the training data into A."""
    from peft.tuners.lora import initialize_lora_eva_weights

    passes = 0

    def forward(wrapped: Any, batch: _TrainingBatch) -> None:
        nonlocal passes
        passes += 1
        if passes > _EVA_LIMIT:
            raise InputError(
                f"init: eva has not converged after {_EVA_LIMIT} batches; a batch must hold more "
                "positions than twice the rank: lower r or raise train.batch_size"
            )
        batch.run(wrapped)
        batch.run = None  # PEFT keeps what it has seen: let go of the tensors

    initialize_lora_eva_weights(
        model,
        _TrainingBatches(batches),
        forward_fn=forward,
        # Every position counts: batches are of similar length, and images have no mask.
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    config.target_modules = _exactly(name for name, _ in _lora_layers(model))


def _take_ranks(config: Any, ranks: "Mapping[str, Tensor]", alphas: "Mapping[str, Tensor]") -> None:
    """Give each module the rank and scale that EVA once chose."""
    config.target_modules = _exactly(ranks)
    config.rank_pattern = {n: int(v) for n, v in ranks.items() if int(v) != config.r}
    config.alpha_pattern = {n: float(v) for n, v in alphas.items() if float(v) != config.lora_alpha}


def _exactly(names: Any) -> str:
    """Return the expression that matches these module names and no other."""
    return "|".join(re.escape(name) for name in sorted(names))


# -- AdaLoRA -------------------------------------------------------------------------------------


def _allocator(model: Any) -> Any:
    return getattr(model.base_model, "rankallocator", None)


def _restore_allocator(model: Any, found: "Mapping[str, Mapping[str, Tensor]]") -> None:
    allocator = _allocator(model)
    if allocator is None:
        return
    for table in _IMPORTANCE:
        setattr(allocator, table, dict(found.get(table, {})))
    if "kept" in found:
        pattern = {name: kept.tolist() for name, kept in found["kept"].items()}
        model.peft_config[ADAPTER].rank_pattern = pattern


# -- virtual tokens ------------------------------------------------------------------------------


def _cut_virtual_tokens(model: Any, config: Any) -> None:
    """Give logits of the text's own positions alone, as every other model does."""
    if not config.is_prompt_learning:
        return

    def cut(_: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        ids = kwargs.get("input_ids", args[0] if args else None)
        logits = getattr(output, "logits", None)
        if ids is not None and logits is not None and logits.dim() == 3:
            output.logits = logits[:, -ids.shape[1] :]
        return output

    model.register_forward_hook(cut, with_kwargs=True)


# -- files ---------------------------------------------------------------------------------------


def _sorted_lists(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose sets have one order: PEFT writes them by this process's hashes."""
    names = ("target_modules", "exclude_modules", "modules_to_save")
    return {
        key: sorted(value) if key in names and isinstance(value, list) else value
        for key, value in config.items()
    }


def merged(model: Any) -> Any:
    """Return the base with the adapter in its weights and the heads in place."""
    from peft.utils.other import ModulesToSaveWrapper

    inner = model.base_model.model
    # PEFT's own merge reads `weight` of every module it puts back, which a head need not have.
    for name, wrapper in list(inner.named_modules()):
        if isinstance(wrapper, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            setattr(inner.get_submodule(parent), last, wrapper.modules_to_save[ADAPTER])
    return model.merge_and_unload()
