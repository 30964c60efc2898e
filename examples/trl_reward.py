"""A reward of rlsf in a script of TRL's: GRPO towards the answer of the majority (arXiv 2504.16084), without labels.

    python examples/trl_reward.py

Correctness has a weight of 0: it is logged beside the reward, and nothing is learned from it. Rewards of the policy's
own distributions, RLSF's confidence among them, need ``rlsf.training.policy_statistics.SelfFeedbackGRPOTrainer`` in the
place of ``GRPOTrainer``, and nothing else (docs/rewards.md).
"""

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import generate
from rlsf.rewards import Correctness, MajorityAgreement


def main(steps: int = 40, output: str = "runs/trl-reward", generations: int = 8) -> GRPOTrainer:
    """Train the bundled model on its generated questions."""
    rows = [{"prompt": p.text, "choices": p.choices, "answer": p.gold} for p in generate("self_training", 400)]
    trainer = GRPOTrainer(
        model=str(MODEL_DIR),
        reward_funcs=[MajorityAgreement(num_generations=generations), Correctness()],
        args=GRPOConfig(
            output_dir=output,
            reward_weights=[1.0, 0.0],
            num_generations=generations,
            per_device_train_batch_size=8 * generations,
            max_completion_length=96,
            max_steps=steps,
            learning_rate=3e-4,
            logging_steps=2,
            save_strategy="no",
            report_to="none",
            bf16=False,
        ),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
