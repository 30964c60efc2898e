"""What a training spends, in tokens, and where it ends by what it may spend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from rlsf.errors import InputError
from rlsf.files import read_json, write_json
from rlsf.training.budget_config import BudgetConfig

if TYPE_CHECKING:
    from rlsf.traces import Trace

SPENT = "spent.json"
#: What the manifest of a training says of its cost.
COUNTS = ("training_tokens", "generated_tokens", "completions")
Kind = Literal["generated_tokens", "training_tokens"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """The tokens that one part of a run may still take, None for no cap.

    ``probe_tokens`` are the most that one probe writes. For messages: ``parts`` of a run share the ``budget``; of the
    generated tokens ``reserved`` are kept for what comes after, and the rest is divided by ``share``.
    """

    generated_tokens: int | None = None
    training_tokens: int | None = None
    probe_tokens: int = 0
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    parts: int = 1
    reserved: int = 0
    share: int = 1

    def require(self, kind: Kind, tokens: int, use: str) -> None:
        """Raise ``InputError`` where ``use`` may take more of that kind than there is; it says how much is enough."""
        left: int | None = getattr(self, kind)
        if left is not None and left < tokens:
            enough = (tokens * self.share + self.reserved if kind == "generated_tokens" else tokens) * self.parts
            raise InputError(
                f"budget.{kind}={getattr(self.budget, kind)} leaves {max(0, left)} tokens for {use}, which may take"
                f" {tokens}: set it to {enough} or more"
            )

    def less(self, tokens: int) -> Allowance:
        """This with so many generated tokens kept for what comes after."""
        left = self.generated_tokens
        return self if left is None else replace(self, generated_tokens=left - tokens, reserved=self.reserved + tokens)

    def half(self) -> Allowance:
        """Half of the generated tokens of this: for what is sampled and not learned from."""
        left = self.generated_tokens
        return self if left is None else replace(self, generated_tokens=left // 2, share=2 * self.share)


UNCAPPED = Allowance()


@dataclass
class Spending:
    """Tokens since a training began; kept beside its checkpoints, so that a resumed one goes on counting.

    ``completions`` are those that were sampled while it trained, their tokens and those of probes generated.
    """

    allowance: Allowance = UNCAPPED
    generated_tokens: int = 0
    training_tokens: int = 0
    completions: int = 0
    ended_by: Kind | None = None
    """The cap for which the training ended before its last step."""

    kept: ClassVar[tuple[str, ...]] = ("generated_tokens", "training_tokens", "completions", "ended_by")

    @property
    def tokens(self) -> dict[str, int]:
        """For the log."""
        return {"generated_tokens": self.generated_tokens, "training_tokens": self.training_tokens}

    def left(self, kind: Kind) -> float:
        """What may still be spent."""
        cap: int | None = getattr(self.allowance, kind)
        return float("inf") if cap is None else cap - getattr(self, kind)

    def affords_probe(self, *, last: bool) -> bool:
        """Whether there is enough for a probe, and, unless it is the last one, for that one as well."""
        return self.left("generated_tokens") >= self.allowance.probe_tokens * (1 if last else 2)

    def note_step(self, trainer: Any) -> None:
        """An optimiser step is done."""

    def note_probe(self, tokens: int) -> None:
        """A probe has written so many tokens."""
        self.generated_tokens += tokens

    def lacks(self, trainer: Any) -> Kind | None:
        """The cap under which another optimiser step, whatever it takes, and a last probe do not fit; None: they do."""
        return None

    def save(self, folder: Path) -> None:
        """Write the state beside a checkpoint."""
        write_json(folder / SPENT, {name: getattr(self, name) for name in self.kept})

    def restore(self, checkpoint: Path | None) -> Self:
        """This, with the state of a checkpoint where there is one."""
        if checkpoint is not None and (checkpoint / SPENT).exists():
            for name, value in read_json(checkpoint / SPENT).items():
                setattr(self, name, value)
        return self


@dataclass
class PlannedSpending(Spending):
    """Of a training whose examples and their order are known: ``after`` holds the tokens after 0, 1, ... steps."""

    after: Sequence[int] = ()

    def note_step(self, trainer: Any) -> None:
        self.training_tokens = int(self.after[trainer.state.global_step])


@dataclass
class OnlineSpending(Spending):
    """Of a training that samples while it trains; what a process did is summed over all after each step.

    A step begins only where its longest possible outcome fits: every completion as long as it may be, after the longest
    prompt. So caps hold for what was really done, and nothing is sampled to be thrown away.
    """

    longest_prompt: int = 0
    _own: list[int] = field(default_factory=lambda: [0, 0, 0])

    def note_rollouts(self, traces: Sequence[Trace]) -> None:
        """This process has sampled these completions."""
        self._own[0] += sum(len(trace.token_ids) for trace in traces)
        self._own[1] += len(traces)

    def note_pass(self, tokens: int) -> None:
        """This process reads so many tokens forwards and backwards."""
        self._own[2] += tokens

    def note_step(self, trainer: Any) -> None:
        import torch

        own = torch.tensor([self._own], device=trainer.accelerator.device)
        generated, completions, trained = trainer.accelerator.gather(own).sum(dim=0).tolist()
        self.generated_tokens += generated
        self.completions += completions
        self.training_tokens += trained
        self._own = [0, 0, 0]

    def lacks(self, trainer: Any) -> Kind | None:
        generated, trained = self.most_of_step(trainer)
        probe = 0 if trainer.selection is None else self.allowance.probe_tokens
        if self.left("generated_tokens") < generated + probe:
            return "generated_tokens"
        return "training_tokens" if self.left("training_tokens") < trained else None

    def most_of_step(self, trainer: Any) -> tuple[int, int]:
        """The most tokens that the coming step generates and trains on."""
        args = trainer.args
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * trainer.accelerator.num_processes
        steps_per_rollout = max(1, args.steps_per_generation // args.gradient_accumulation_steps)
        fresh = trainer.state.global_step % (steps_per_rollout * trainer.num_iterations) == 0
        generated = rows * steps_per_rollout * trainer.max_completion_length if fresh else 0
        return generated, rows * (self.longest_prompt + trainer.max_completion_length)

    def require_a_step(self, trainer: Any) -> None:
        """Raise ``InputError`` where not even the first step fits."""
        if trainer.state.global_step:
            return
        generated, trained = self.most_of_step(trainer)
        probes = 0 if trainer.selection is None else 2 * self.allowance.probe_tokens
        self.allowance.require("generated_tokens", generated + probes, "a step of online training")
        self.allowance.require("training_tokens", trained, "a step of online training")
