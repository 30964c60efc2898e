"""Questions as given, and the text and token ids a model sees."""

from rlsf.prompts.gold import GoldAnswerError
from rlsf.prompts.loading import has_gold, load_prompts
from rlsf.prompts.presets import PRESETS
from rlsf.prompts.prompt import Prompt, Turn
from rlsf.prompts.rendering import RenderedPrompt, render
from rlsf.prompts.source import prompt_source, with_defaults

__all__ = [
    "PRESETS",
    "GoldAnswerError",
    "Prompt",
    "RenderedPrompt",
    "Turn",
    "has_gold",
    "load_prompts",
    "prompt_source",
    "render",
    "with_defaults",
]
