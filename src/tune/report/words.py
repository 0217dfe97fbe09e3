"""What can be changed in a run, as words that can be typed after those of the run itself.

Each try changes something: it looks at the run's own config, and is left out where the run has it already, where it has
no effect, or where it does not go together with what the run has. A group is chosen anew only where the run has an
option of it as it is shipped: keys below it that somebody set would stay behind, and may mean nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tune.config import files
from tune.config.across.domains import is_domains
from tune.config.across.rate import problems as rate_problems
from tune.config.tree import ConfigTree
from tune.report.story import Story

LARGER = {"efficientnet_lite0": "efficientnet_lite1", "efficientnet_lite1": "efficientnet_lite2"}
SMALLER = {larger: smaller for smaller, larger in LARGER.items()}
SMALLER |= dict.fromkeys(("resnet50", "inception_v3", "convnext_tiny", "vit_small"), "efficientnet_lite0")
_MIRRORED_MEANS_ANOTHER = ("digits", "mnist5k")
_READ_MIXED_LABELS = ("cross_entropy", "weighted", "focal", "logit_adjustment")
_AUGMENT = "tune.data.augment.Augment"


@dataclass(frozen=True)
class Try:
    """Words to add to those of the run, and what speaks for them."""

    words: list[str]
    why: str


class Words:
    """What can be changed in a run.

    Args:
        story: the run.
        usual_rate: of its optimizer, where that is known.
    """

    def __init__(self, story: Story, usual_rate: float | None) -> None:
        self.story, self.config, self.choices = story, story.config, story.record["choices"]
        self.usual_rate = usual_rate
        self.asked_rate = (
            story.record["auto"]["lr"]["lr"] if story.config["lr"] == "auto" else float(story.config["lr"])
        )
        self.tree = ConfigTree()

    def is_shipped(self, group: str) -> bool:
        """Whether a group is an option as its file has it, with no key of it set elsewhere."""
        option = self.choices.get(group, "")
        return option in self.tree.options(group) and files.read(self.tree.file(group, option)).data == self.node(group)

    def node(self, group: str) -> dict[str, Any]:
        return self.config[group]

    def value(self, key: str) -> Any:
        return self.story.value(key)

    @property
    def trains(self) -> str:
        """What trains, by the nearest option of `freeze`."""
        node = self.node("freeze")
        if "chosen" in node:
            return node["chosen"]["option"]
        option = self.choices.get("freeze", "")
        return "deep" if node.get("rules") == {"head": "trained", "*": "frozen"} else option

    @property
    def is_pretrained(self) -> bool:
        return bool(self.story.record["weights"]["digest"])

    @property
    def is_plain(self) -> bool:
        """One domain, one label: what mixes or draws rows anew is refused elsewhere."""
        method = self.node("transfer")["_target_"].rpartition(".")[2]
        return not is_domains(self.node("data")) and not self.node("data").get("tasks") and method == "FineTune"

    # One word or two each; None where it changes nothing.

    def higher_rate(self) -> Try | None:
        return self._rate(10, "each step goes farther")

    def somewhat_higher_rate(self) -> Try | None:
        return self._rate(3, "the same way in fewer steps")

    def found_rate(self) -> Try | None:
        if self.config["lr"] == "auto" or any(rate_problems({**self.config, "lr": "auto"})):
            return None
        return Try(["lr=auto"], "a few steps at several rates come first")

    def lower_rate(self) -> Try | None:
        return self._rate(0.1, "the rate is the first suspect")

    def somewhat_lower_rate(self) -> Try | None:
        return self._rate(1 / 3, "smaller steps move less")

    def _no_more_than_usual(self, times: float) -> list[str]:
        """A word for the rate, where it is more than so many times the usual one."""
        usual = self.usual_rate
        return [f"lr={usual:g}"] if usual is not None and self.asked_rate > times * usual else []

    def usual_lr(self) -> Try | None:
        usual, asked = self.usual_rate, self.asked_rate
        if usual is None or self.choices["optimizer"] == "lbfgs" or usual / 3 <= asked <= usual * 3:
            return None
        return Try([f"lr={usual:g}"], f"{self.choices['optimizer']} usually takes about so much")

    def _rate(self, factor: float, why: str) -> Try | None:
        """Another rate; at once the usual one where the factor leads less far."""
        if self.choices.get("optimizer") == "lbfgs":
            return None
        new, usual = self.asked_rate * factor, self.usual_rate
        if usual is not None and (new < usual if factor > 1 else new > usual):
            new, why = usual, f"{why}; {self.choices['optimizer']} usually takes about so much"
        return Try([f"lr={new:.2g}"], why)

    def longer(self) -> Try | None:
        if len(self.story.rows) < self.config["epochs"]:
            return None  # it stopped early, or diverged
        return Try([f"epochs={2 * self.config['epochs']}"], "the curve may not have ended")

    def dropout(self) -> Try | None:
        now = self.value("regularize.dropout")
        return Try([f"regularize.dropout={0.5 if now else 0.3}"], "no feature can be relied on") if now < 0.5 else None

    def no_dropout(self) -> Try | None:
        return Try(["regularize.dropout=0"], "it holds back what learns too little") if self._on("dropout") else None

    def weight_decay(self) -> Try | None:
        if self.choices.get("optimizer") == "lbfgs":
            return None if self._on("l2") else Try(["regularize.l2=0.0001"], "small weights cannot learn rows by heart")
        first, most = (0.1, 1.0) if self.choices.get("optimizer") == "adamw" else (1e-3, 1e-2)
        new = max(first, 10 * self.value("regularize.weight_decay"))
        why = "small weights cannot learn rows by heart"
        return Try([f"regularize.weight_decay={new:g}"], why) if new <= most else None

    def early_stopping(self) -> Try | None:
        if self._on("early_stopping") or self._on("swa") or self.config["epochs"] < 6:
            return None
        return Try(["regularize.early_stopping=3"], "the best epoch is kept anyway; this saves the others")

    def smoothing(self) -> Try | None:
        if self._on("label_smoothing") or self.choices.get("loss") not in _READ_MIXED_LABELS:
            return None
        return Try(["regularize.label_smoothing=0.1"], "a wrong label pulls less")

    def ema(self) -> Try | None:
        if self._on("ema") or self._on("swa"):
            return None
        return Try(["regularize.ema=0.99"], "validates an average of the weights, which moves less")

    def augment(self) -> Try | None:
        """Images changed, where none are; mixed, where they are changed."""
        if self.choices.get("augment") == "none" and self.is_shipped("augment"):
            data = {option for group, option in self.choices.items() if group.partition("@")[0] == "data"}
            option = "affine" if data & set(_MIRRORED_MEANS_ANOTHER) else "mild"
            return Try([f"augment={option}"], self.tree.sentence("augment", option).rstrip("."))
        return self.mixup()

    def mixup(self) -> Try | None:
        is_read = self.choices.get("loss") in _READ_MIXED_LABELS and self.node("augment")["_target_"] == _AUGMENT
        mixes = self.value("augment.mixup") or self.value("augment.cutmix")
        if not is_read or mixes or not self.is_plain or self.value("cache.mode") == "require":
            return None
        return Try(["augment.mixup=0.2"], "no image is seen twice, and no label is certain")

    def train_more(self) -> Try | None:
        """More layers that train, at no more than the usual rate; all of them where none knows anything."""
        if not self.is_shipped("freeze") or self.trains not in ("deep", "mid"):
            return None
        option = "mid" if self.trains == "deep" and self.is_pretrained else "full"
        return Try(
            [f"freeze={option}", *self._no_more_than_usual(1)], "more of the network fits itself to these images"
        )

    def train_less(self) -> Try | None:
        if not self.is_shipped("freeze") or not self.is_pretrained or self.trains not in ("full", "mid"):
            return None
        option = "mid" if self.trains == "full" else "deep"
        return Try([f"freeze={option}"], "fewer weights that can learn rows by heart")

    def larger(self) -> Try | None:
        other = LARGER.get(self.choices.get("backbone", ""))
        return Try([f"backbone={other}"], "a larger network") if other and self.is_shipped("backbone") else None

    def smaller(self) -> Try | None:
        width, other = self.value("backbone.width"), SMALLER.get(self.choices.get("backbone", ""))
        if isinstance(width, int) and width > 1:
            return Try([f"backbone.width={width // 2}"], "a smaller network")
        return Try([f"backbone={other}"], "a smaller network") if other and self.is_shipped("backbone") else None

    def norm(self) -> Try | None:
        if self.node("backbone").get("norm") != "none":
            return None
        return Try(["backbone.norm=batch"], "keeps the signal, and its gradient, the same size in every layer")

    def init(self) -> Try | None:
        if self.is_pretrained or self.choices.get("init") == "he" or not self.is_shipped("init"):
            return None
        return Try(["init=he"], "first weights that keep the signal's size from layer to layer")

    def hidden(self) -> Try | None:
        if self.choices.get("head") != "linear" or not self.is_shipped("head"):
            return None
        return Try(["head=mlp"], "a hidden layer tells more than a plane")

    def adam(self) -> Try | None:
        if self.choices.get("optimizer") not in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop"):
            return None
        return Try(["optimizer=adamw", "lr=0.001"], "sizes each step itself") if self.is_shipped("optimizer") else None

    def clipping(self) -> Try | None:
        if self.value("trainer.gradient_clip_val") or self.choices.get("optimizer") == "lbfgs":
            return None
        return Try(
            ["trainer.gradient_clip_val=1.0", *self._no_more_than_usual(10)],
            "one bad batch cannot throw the weights far",
        )

    def warmup(self) -> Try | None:
        if self.choices.get("scheduler") in ("warmup_cosine", "one_cycle") or not self.is_shipped("scheduler"):
            return None
        return Try(
            ["scheduler=warmup_cosine", *self._no_more_than_usual(10)], "the first steps, the wildest, are small"
        )

    def by_loss(self) -> Try | None:
        if not self.story.objective.startswith("val/") or not self.story.curve("val/loss"):
            return None
        is_count = self.story.objective in ("val/accuracy", "val/balanced_accuracy", "val/f1", "val/f1_macro")
        return (
            Try(["objective=val/loss"], "uses how sure each row is, not only which side it is on") if is_count else None
        )

    def folds(self) -> Try | None:
        split = self.node("data").get("split", {})
        is_given = "val" in self.story.record["data"]["how"].partition("given")[0]
        if is_domains(self.node("data")) or is_given or "folds" in split or "val" in split or self._ensemble():
            return None
        return Try(["data.split.folds=5"], "every row validates once, in five runs")

    def more_val(self) -> Try | None:
        split = self.node("data").get("split", {})
        is_given = "val" in self.story.record["data"]["how"].partition("given")[0]
        if is_domains(self.node("data")) or is_given or split.get("folds") or split.get("val", 0.2) >= 0.3:
            return None
        return Try(["data.split.val=0.3"], "more rows to judge by, fewer to learn from")

    def batch(self) -> Try | None:
        if (
            self.choices.get("optimizer") == "lbfgs"
            or self.config["batch_size"] * 4 > self.story.record["counts"]["train"]
        ):
            return None
        return Try([f"batch_size={2 * self.config['batch_size']}"], "each step has less noise")

    def bagging(self) -> Try | None:
        is_plain = self.is_plain and self.choices.get("loss") in _READ_MIXED_LABELS
        if self.trains != "deep" or not is_plain or "bootstrap" in self.node("data") or not self.is_shipped("ensemble"):
            return None
        return Try(["ensemble=bagging"], "twenty heads on the same cached features") if not self._ensemble() else None

    def _on(self, name: str) -> bool:
        return bool(self.value(f"regularize.{name}"))

    def _ensemble(self) -> bool:
        return self.choices.get("ensemble", "none") != "none"
