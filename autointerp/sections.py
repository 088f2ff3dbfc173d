"""The sections of a configuration: one frozen pydantic model each, with the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEMO = Path(__file__).parent / "demo"
DEMO_CODERS = ("layers.0", "layers.1")
DEFAULT_LATENTS = "alive:40"
DEFAULT_EXPLAINER, DEFAULT_SCORERS = "agent", ("detection", "fuzzing")
EFFECTS = "effects"  # the explainer of what latents cause, unless another is named
CASCADE = "cascade"  # the explainer of a run whose ``explainer`` has tiers


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    """Where the run lies (``directory/name``) and the seed of every choice made in it.

    ``rerun`` counts how often the same was done before: in a rerun explainers draw otherwise, and
    language models are asked again.
    """

    name: str = Field(default="demo", min_length=1)
    directory: Path = Path("runs")
    seed: int = 0
    rerun: int = Field(default=0, ge=0)

    @property
    def path(self) -> Path:
        return self.directory / self.name


class CoderSection(Section):
    """One sparse coder: a checkpoint's path or hub id, and where it reads and writes.

    ``hook`` defaults to what the checkpoint claims, else to the coder's name.
    """

    path: str
    hook: str | None = None
    hook_out: str | None = None
    revision: str | None = None


class SubjectSection(Section):
    """The language model under study and its coders, by name."""

    model: str = "demo"
    revision: str | None = None
    coders: dict[str, CoderSection] = Field(
        default_factory=lambda: {name: CoderSection(path="demo") for name in DEMO_CODERS}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    device_map: str | dict[str, int | str] | None = None
    context_length: int = Field(default=256, ge=2)
    batch_tokens: int = Field(default=8192, ge=1)
    bos: Literal["skip", "keep"] = "skip"

    @field_validator("coders", mode="before")
    @classmethod
    def _short_form(cls, coders: Any) -> Any:
        """Read ``NAME: path`` as ``NAME: {path: path}``."""
        if not isinstance(coders, dict):
            return coders
        return {
            str(name): {"path": coder} if isinstance(coder, str) else coder
            for name, coder in coders.items()
        }

    @model_validator(mode="after")
    def _coders_fit_the_model(self) -> Self:
        if not self.coders:
            raise ValueError("name at least one sparse coder, as in coders: {layers.1: PATH}")
        if self.model != "demo" and "coders" not in self.model_fields_set:
            raise ValueError(f"the demo's coders do not read {self.model!r}; give coders too")
        return self


class CorpusSection(Section):
    """Where the text comes from: a file, a folder, a hub data set, or ``stdlib``.

    ``license`` is told to those to whom a run is published.
    """

    source: str = Field(default="stdlib", min_length=1)
    column: str = "text"
    tokens: int = Field(default=1_000_000, ge=1)
    license: str | None = Field(default=None, min_length=1)


class SplitsSection(Section):
    """The share of documents in each split; the three add up to 1."""

    explain: float = Field(default=0.4, gt=0, lt=1)
    select: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.4, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.explain + self.select + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"explain, select and test must add up to 1, not {total:g}")
        return self


class ExplainWindows(Section):
    """How many EXPLAIN windows a latent keeps: the largest, and a uniform sample."""

    top: int = Field(default=40, ge=1)
    sampled: int = Field(default=200, ge=1)


class SelectWindows(Section):
    """How many SELECT windows a latent keeps."""

    sampled: int = Field(default=60, ge=1)


class TestWindows(Section):
    """How many TEST windows a latent keeps."""

    __test__ = False  # pytest: not a test

    sampled: int = Field(default=120, ge=1)


class ExamplesSection(Section):
    """The geometry of the example store; ``window`` is in tokens, ``background`` in windows.

    ``semantic`` adds negatives that are near in meaning to what a latent fires in, by the run's
    ``embedder``.
    """

    window: int = Field(default=32, ge=2)
    background: int = Field(default=4096, ge=1)
    splits: SplitsSection = SplitsSection()
    explain: ExplainWindows = ExplainWindows()
    select: SelectWindows = SelectWindows()
    test: TestWindows = TestWindows()
    semantic: bool = False


class EmbedderSection(Section):
    """The sentence-transformers model that turns texts into vectors: a folder, or a hub id.

    It is loaded only where something needs it.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    device: str = "auto"


class PriceSection(Section):
    """Dollars for a million tokens; ``cached`` prompt tokens cost as the others unless said."""

    prompt: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    completion: float = Field(ge=0)


class ServeSection(Section):
    """How a run starts a vLLM server of its own.

    ``command`` may be that of another environment; the model stands where it says ``{model}``, or
    after it. The server gets ``gpus`` (counted among the visible ones; all if there are none
    here): ``data_parallel`` replicas, one a GPU unless said, with an equal share of them each.
    ``args`` are further arguments of ``vllm serve``.
    """

    command: list[str] = Field(default=["vllm", "serve"], min_length=1)
    gpus: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    data_parallel: int | None = Field(default=None, ge=1)
    args: list[str] = Field(default_factory=list)
    startup_minutes: float = Field(default=30.0, gt=0)

    @field_validator("args")
    @classmethod
    def _loopback_only(cls, args: list[str]) -> list[str]:
        for arg in args:
            if arg.partition("=")[0] in ("--host", "--port", "--uds"):
                raise ValueError(f"leave {arg} out: the server is on a free port of 127.0.0.1")
        return args

    @model_validator(mode="after")
    def _equal_shares(self) -> Self:
        if len(set(self.gpus)) < len(self.gpus):
            raise ValueError(f"gpus: {self.gpus} names one twice")
        if self.gpus and len(self.gpus) % (self.data_parallel or 1):
            raise ValueError(
                f"data_parallel: {len(self.gpus)} GPUs are no equal shares"
                f" for {self.data_parallel} replicas"
            )
        return self


class BatchSection(Section):
    """How requests go out as files of a Batch API, many at a time: in waves.

    A wave leaves once nothing has joined it for ``idle_seconds``, or when it is as large as a file
    may be: so many ``requests`` or ``megabytes``, or as many prompt tokens as the account may have
    queued at a time (``enqueued_tokens``, estimated). ``in_flight`` requests wait at most, in one
    wave or several, and as many latents as that allows. Open batches are looked at every
    ``poll_seconds``. ``allow_waves`` accepts explainers and scorers that ask up to so many
    questions one after another about a latent, each in a wave of its own, which may take a day.
    With ``command``, such as ``[vllm, run-batch]``, the files go to that program on this machine.
    """

    in_flight: int = Field(default=20_000, ge=1)
    requests: int = Field(default=50_000, ge=1)
    megabytes: float = Field(default=200, gt=0)
    enqueued_tokens: int | None = Field(default=None, ge=1)
    poll_seconds: float = Field(default=60, gt=0)
    idle_seconds: float = Field(default=10, gt=0)
    allow_waves: int = Field(default=1, ge=1)
    command: list[str] = Field(default_factory=list)


class LLMSection(Section):
    """One language model that a run talks to, through any OpenAI-compatible endpoint.

    ``base_url`` is OpenAI's own unless given; it stands for a server that already runs. Without
    it, ``backend: vllm`` starts one as ``serve`` says. ``backend: openai-batch`` asks in waves, as
    ``batch`` says.
    ``temperature`` and ``max_tokens`` replace what the prompts ask for. ``extra_body`` is merged
    into every request; a null there leaves a field out (``{temperature: null}`` for models that
    take none). ``structured`` says how replies are held to a schema: by the server, by the prompt,
    or whichever works. The key itself is read from the environment variable ``api_key_env`` and
    stands nowhere else.
    """

    backend: Literal["openai", "openai-batch", "vllm"] = "openai"
    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=32, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    structured: Literal["auto", "schema", "prompt"] = "auto"
    prices: PriceSection | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    serve: ServeSection | None = None
    batch: BatchSection | None = None

    @property
    def waves(self) -> BatchSection | None:
        """How it asks in waves; None if it does not."""
        return (self.batch or BatchSection()) if self.backend == "openai-batch" else None

    @model_validator(mode="after")
    def _batch_fits_the_backend(self) -> Self:
        if self.batch is not None and self.backend != "openai-batch":
            raise ValueError("batch is for backend: openai-batch")
        if self.batch is not None and self.batch.command and self.base_url is not None:
            raise ValueError("batch.command runs here; leave base_url out")
        return self

    @model_validator(mode="after")
    def _serves_what_it_starts(self) -> Self:
        if self.serve is not None and (self.backend != "vllm" or self.base_url is not None):
            raise ValueError("serve is for backend: vllm without a base_url")
        return self

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not a URL; write http://HOST:PORT/v1")
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("a URL with a password would be written to files; use api_key_env")
        return url.rstrip("/")


class BudgetSection(Section):
    """What a run may spend in all, however often it is resumed; ``hours`` count from each start."""

    dollars: float | None = Field(default=None, ge=0)
    prompt_tokens: int | None = Field(default=None, ge=0)
    hours: float | None = Field(default=None, ge=0)


class EngineSection(Section):
    """What spreads the tasks, and how many latents are in flight at once.

    Interrupted, a run gives the requests under way ``drain_seconds`` to be answered.
    With ``kind: ray``, models run in ``workers`` processes (one a GPU, unless said) with ``gpus``
    each (one where there are any): of the Ray cluster at ``address``, or of this machine.
    """

    kind: Literal["local", "ray"] = "local"
    concurrency: int = Field(default=64, ge=1)
    drain_seconds: float = Field(default=20.0, ge=0)
    workers: int | None = Field(default=None, ge=1)
    gpus: float | None = Field(default=None, ge=0)
    address: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _options_of_ray(self) -> Self:
        given = {"workers", "gpus", "address"} & {name for name, value in self if value is not None}
        if given and self.kind != "ray":
            raise ValueError(f"{', '.join(sorted(given))}: only for kind: ray")
        return self


class CascadeSection(Section):
    """Explainers from the cheapest to the dearest, one of a kind.

    All latents are explained by the first. The next ones try those alone whose explanations are
    all below ``escalate_below`` on SELECT, as ``judge`` has it: ``pattern`` where every tier
    writes patterns, else a language model, unless said. ``select`` is how many SELECT windows of
    each kind (active, random, hard) are judged: 20 by a language model, all by patterns, unless
    given.
    """

    kind: Literal["cascade"] = "cascade"
    tiers: list[dict[str, Any]]
    escalate_below: float = Field(default=0.8, ge=0, le=1)
    judge: str | dict[str, Any] | None = None
    select: int | None = Field(default=None, ge=1)

    @field_validator("tiers")
    @classmethod
    def _some_and_each_once(cls, tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(tiers) < 2:
            raise ValueError("name two or more, the cheapest first, as in [{kind: A}, {kind: B}]")
        kinds = [tier["kind"] for tier in tiers if "kind" in tier]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"{kind!r} is listed twice; a cascade has one of a kind")
        return tiers
