"""The explainer of one question: a language model reads a latent's windows and says what it means.

The published variants are options. ``revise`` adds a second question: a judge answers from the
explanation alone for EXPLAIN windows that the first did not show, and the model rewrites its
explanation in view of those that were judged wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, create_model

from autointerp.explainers.counterexamples import mistakes
from autointerp.explainers.excerpts import Chosen, Sampling, Writer, choose
from autointerp.judges import Judge
from autointerp.judges.llm import LLMJudge
from autointerp.judges.windows import quoted, shown
from autointerp.latents import Evidence, Explanation, LabelledSet, LatentId
from autointerp.latents.scales import distinct
from autointerp.llm.accounts import metered
from autointerp.llm.client import LLMClient, LLMFailure
from autointerp.llm.templates import Templates, ask
from autointerp.patterns import SEPARATOR
from autointerp.registry import Options, Turns, explainers

FEWEST = 10  # distinct active windows
CONTRASTS = 10
LENS_TOKENS = 10
HELD_BACK = 10  # windows of each label that test an explanation before it is revised
LABEL_WORDS, DESCRIPTION_WORDS = 20, 60


class SinglePassOptions(Options):
    """What the prompt shows. ``llm`` names the model among the run's ``llms``.

    ``exemplars`` says how the ``count`` active windows are drawn; ``activations`` lists how
    strong each marked token is, 1 to 10; ``contrastive`` shows inactive windows that hold the
    same tokens; ``logit_lens`` the tokens that the latent makes likelier. ``modes`` is how many
    explanations the model may give, one for each thing that the latent is active on.
    """

    llm: str = "explainer"
    exemplars: Sampling = "quantile"
    count: int = Field(default=40, ge=1)
    activations: bool = True
    contrastive: bool = False
    logit_lens: bool = False
    modes: int = Field(default=1, ge=1, le=8)
    revise: bool = False
    max_tokens: int = Field(default=1024, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"client", "templates", *(("judge",) if self.revise else ())})

    @property
    def turns(self) -> Turns:
        return Turns(2, 1) if self.revise else Turns(1, 0)


def text_of(most: int) -> AfterValidator:
    """Some words, at most so many: checked here, since few servers know such limits."""

    def check(text: str) -> str:
        words = len(text.split())
        if not 1 <= words <= most:
            raise ValueError(f"write 1 to {most} words, not {words}")
        return text.strip()

    return AfterValidator(check)


class Meaning(BaseModel):
    """One thing that a latent is active on."""

    description: Annotated[str, text_of(DESCRIPTION_WORDS)]
    label: Annotated[str, text_of(LABEL_WORDS)]


class Meanings(BaseModel):
    """A reply."""

    explanations: list[Meaning]

    @property
    def text(self) -> str:
        return SEPARATOR.join(meaning.description for meaning in self.explanations)

    @property
    def label(self) -> str:
        return SEPARATOR.join(meaning.label for meaning in self.explanations)


@cache
def _reply_of(modes: int) -> type[Meanings]:
    """The reply with 1 to ``modes`` explanations."""
    some = Annotated[list[Meaning], Field(min_length=1, max_length=modes)]
    return create_model("Explanations", __base__=Meanings, explanations=(some, ...))


@explainers.register("single_pass", SinglePassOptions)
class SinglePassExplainer:
    """Asks once, or twice with ``revise``; one explainer serves a run.

    ``judge`` finds the counterexamples of ``revise``: an LLM judge of the same model unless given.
    """

    name = "single_pass"

    def __init__(
        self,
        options: SinglePassOptions | None = None,
        seed: int = 0,
        *,
        client: LLMClient,
        templates: Templates,
        judge: Judge | None = None,
    ) -> None:
        self.options = options or SinglePassOptions()
        self.seed = seed
        self._client = client
        self._templates = templates
        self._judge = judge or LLMJudge(seed=seed, client=client, templates=templates)

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
        """Explain one latent; a reply that cannot be used makes it ``failed``.

        ``selection`` is not looked at.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        latent = evidence.latent
        if not evidence.statistics.firing_count:
            return Explanation(latent, "", self.name, status="dead", reason="it never fired")
        found = len(distinct([*evidence.top, *evidence.sampled]))
        if found < FEWEST:
            few = f"{found} distinct active windows; {FEWEST} are needed"
            return Explanation(latent, "", self.name, status="too_few_examples", reason=few)
        explained = self._explained(evidence)
        del evidence, selection  # an answer may be long in coming, and windows take much memory
        with metered() as account:
            try:
                meanings, details = await explained
            except LLMFailure as failure:
                return Explanation(
                    latent, "", self.name,
                    status="failed", reason=failure.reason, cost=account.all,
                )  # fmt: skip
        return Explanation(
            latent=latent,
            text=meanings.text,
            explainer=self.name,
            components=tuple(meaning.description for meaning in meanings.explanations),
            cost=account.all,
            details={"label": meanings.label, **details},
        )

    async def _explained(self, evidence: Evidence) -> tuple[Meanings, dict[str, Any]]:
        options = self.options
        contrasts = CONTRASTS if options.contrastive else 0
        held = HELD_BACK if options.revise else 0
        chosen = choose(evidence, options.exemplars, options.count, contrasts, held, self.seed)
        writer = Writer.fitting(evidence, chosen)
        latent, values = evidence.latent, self._values(evidence, chosen, writer)
        asked = self._ask("single_pass", values)
        del evidence
        if not options.revise:
            del chosen, writer, values
            first, key = await asked
            return first, {"request": key}
        first, key = await asked
        return await self._revised(latent, chosen, writer, values, first, key)

    def _values(self, evidence: Evidence, chosen: Chosen, writer: Writer) -> dict[str, Any]:
        options = self.options
        return {
            "opening": writer.marks[0],
            "closing": writer.marks[1],
            "excerpts": writer.lines(chosen.shown),
            "contrasts": shown(chosen.contrasts),
            "lens": ", ".join(map(quoted, evidence.logit_lens[:LENS_TOKENS])),
            "activations": options.activations,
            "contrastive": options.contrastive,
            "logit_lens": options.logit_lens,
            "modes": options.modes,
        }

    async def _revised(
        self,
        latent: LatentId,
        chosen: Chosen,
        writer: Writer,
        values: Mapping[str, Any],
        first: Meanings,
        key: str,
    ) -> tuple[Meanings, dict[str, Any]]:
        """The explanation in view of its mistakes; the first one if there are none."""
        wrong = await mistakes(
            self._judge, first.text, chosen.held_active, chosen.held_silent,
            latent=latent, seed=self.seed,
        )  # fmt: skip
        details: dict[str, Any] = {"request": key, "held_back": wrong.counts()}
        if not wrong:
            return first, details
        more = {
            "reply": first.model_dump_json(),
            "missed": writer.lines(wrong.missed),
            "wrongly_found": shown(wrong.wrongly_found),
        }
        try:
            second, key = await self._ask("revise", {**values, **more})
        except LLMFailure as failure:
            return first, {**details, "not_revised": failure.reason}
        return second, {**details, "request": key, "first": first.text}

    async def _ask(self, name: str, values: Mapping[str, Any]) -> tuple[Meanings, str]:
        asked = ask(
            self._client,
            self._templates,
            f"explainer/{name}",
            _reply_of(self.options.modes),
            values,
            max_tokens=self.options.max_tokens,
            purpose=f"explainer.{name}",
        )
        del values
        meanings, reply = await asked
        return meanings, reply.key
