"""Questions as given, and the text and token ids a model sees."""

from rlsf.prompts.gold import GoldAnswerError
from rlsf.prompts.loading import Prompts, has_gold, load_prompts, open_prompts, prompts_digest
from rlsf.prompts.presets import PRESETS
from rlsf.prompts.prompt import Prompt, Turn
from rlsf.prompts.rendering import RenderedPrompt, render
from rlsf.prompts.source import prompt_source, with_defaults

__all__ = [
    "PRESETS",
    "GoldAnswerError",
    "Prompt",
    "Prompts",
    "RenderedPrompt",
    "Turn",
    "has_gold",
    "load_prompts",
    "open_prompts",
    "prompt_source",
    "prompts_digest",
    "render",
    "with_defaults",
]
