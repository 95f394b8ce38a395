"""Live run: start, pause, resume and stop a distillation from the page, and watch it while it goes on. Lesson 01."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import ipywidgets
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.batches import Rows
from ..data.tasks import encode_texts
from ..engine import preflight
from ..engine.callbacks import Callback
from ..engine.interrupt import on_kernel_interrupt
from ..engine.run import Run, Runtime, Stage
from ..errors import KdlabError
from ..loop import distill
from ..plots import Moment, draw_moment, frame_moment
from ..study.metrics import predict
from ..worlds.corpus import World
from .controls import on_change, text_picker
from .picture import Picture, PictureWidget
from .temperature import posterior_of
from .watch import moment

SECONDS_BETWEEN = 0.4       # two pictures of a run under way: it moves, and costs the training little
READY, RUNNING, PAUSED, ENDED = "ready", "running", "paused", "ended"


class LiveRun(PictureWidget):
    """A distillation in a thread of its own: the notebook stays usable, and a kernel interrupt ends it like "stop".

    student, data, stages, teacher and the options are those of `kdlab.loop.distill`; the student is a classifier and
    is trained in place. texts: to choose from, others may be typed; world: tells the true posterior of a text of its
    grammar. `run` is the run so far, `wait()` returns it when it has ended. While it trains, use the student from
    nowhere else; torch's random numbers are shared with other cells, so that a run with dropout or masking, and what
    those cells draw, are not repeatable.

    Raises `KdlabError` for a student that is no classifier and for a run that cannot be right, as `distill` does. What
    goes wrong later is said in the widget.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, data: Dataset,
                 stages: Stage | Sequence[Stage], *, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str],
                 world: World | None = None, callbacks: Sequence[Callback] = (), **options) -> None:
        self.go_on, self.stopping = threading.Event(), False    # first: what is refused below is closed, too
        if not _classifies(student):
            raise KdlabError(f"a live run shows what a classifier says of a text, and this is a "
                             f"{type(student).__name__}; train it with distill(...), or give a classifier")
        stages = [stages] if isinstance(stages, Stage) else list(stages)
        preflight.check(student, teacher, Rows(data, tokenizer.pad_token_id), stages)
        self.student, self.tokenizer, self.world = student, tokenizer, world
        self.teacher = teacher if teacher is not None and _classifies(teacher) else None
        self.total = sum(stage.steps for stage in stages)
        self.job = lambda: distill(student, teacher, data, stages, callbacks=[self._after_step, *callbacks],
                                    runtime=Runtime(progress=False), **options)
        self.labels = tuple(student.config.id2label.values())
        self.phase, self.run, self.seen, self.error = READY, Run(), {}, ""
        self.drawn_at = 0.0
        self.before = 0                                 # steps that a checkpoint had
        self.trained, self.resumed_at = 0.0, 0.0        # seconds of training before the last pause; when it went on
        self.thread: threading.Thread | None = None
        style = {"description_width": "6.5em"}
        self.text = text_picker(texts)
        self.go = ipywidgets.Button(description="start", icon="play", tooltip="start the run")
        self.halt = ipywidgets.Button(description="stop", icon="stop", tooltip="end the run", disabled=True)
        self.bar = ipywidgets.IntProgress(min=0, max=self.total, description="steps", style=style,
                                          layout=ipywidgets.Layout(width="50%"))
        super().__init__(Picture(frame_moment, draw_moment, backgrounds=1),     # each has its own curves
                         [self.text, ipywidgets.HBox([self.go, self.halt, self.bar])])
        on_change(self.refresh, self.text)
        self.go.on_click(self._go)
        self.halt.on_click(self.stop)

    def wait(self, seconds: float | None = None) -> Run:
        """The run when it has ended, or after so many seconds. Raises `KdlabError` while it is paused: nobody could
        resume it then."""
        if self.phase == PAUSED and seconds is None:
            raise KdlabError("the run is paused and would be waited for without end; resume or stop it first")
        if self.thread:
            self.thread.join(seconds)
        return self.run

    def stop(self, *_) -> None:
        """End the run after the step under way; the student stays as it is then."""
        self.stopping = True
        self.go_on.set()

    def close(self) -> None:
        """Ends the run, too, and waits for its last step: when its cell is run again, or the widget is thrown away."""
        self.stop()
        thread = getattr(self, "thread", None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        super().close()

    def refresh(self, *_) -> None:
        """While the run trains, only its own thread may read the student: the picture then follows in a moment."""
        with self.drawing:
            if self.phase == RUNNING and threading.current_thread() is not self.thread:
                return
            self.drawn_at = time.perf_counter()
            super().refresh()

    def state(self) -> Moment:
        text = self.text.value
        if not text.strip():
            raise KdlabError("the text is empty; pick one from the list or type a few words")
        rows = Rows(encode_texts([text], self.tokenizer), self.tokenizer.pad_token_id)
        if text not in self.seen:
            self.seen = {text: (None if self.teacher is None else predict(self.teacher, rows)[0],
                                *posterior_of(self.world, text))}
        p_logits, truth, note = self.seen[text]
        curves = {k: list(v) for k, v in self.run.history.items() if k not in ("step", "stage", "loss")}
        return moment(self.labels, self.run.steps, predict(self.student, rows)[0], p_logits, truth, curves,
                      f"{self._progress()} {note}".strip(), self.total)

    def static_state(self) -> Moment:
        """What was drawn last: the student may be in the middle of a step."""
        if self.drawn is None:
            raise KdlabError("nothing could be drawn yet; pick a text or type a few words")
        return self.drawn

    def _progress(self) -> str:
        steps, seconds = self.run.steps, self.trained
        if self.phase == READY:
            return f"Ready for {self.total} steps."
        if self.phase == RUNNING:
            seconds += time.perf_counter() - self.resumed_at
        rate = (steps - self.before) / seconds if seconds > 0 else 0.0
        left = f", about {(self.total - steps) / rate:.0f} s left" if rate and self.phase != ENDED else ""
        what = self.phase.capitalize() if self.phase != ENDED else "Done" if steps == self.total else "Stopped"
        return f"{what}: step {steps} of {self.total}, {rate:.1f} steps a second{left}."

    def _go(self, _) -> None:
        """Start, pause or resume, whichever the button says."""
        with self.drawing:      # nobody reads the student while it goes on
            if self.phase == READY:
                self.thread = threading.Thread(target=self._train, name="kdlab live run", daemon=True)
                self._set(RUNNING)
                self.thread.start()
            elif self.phase == RUNNING:
                self.go_on.clear()      # the run pauses itself after the step under way
            elif self.phase == PAUSED:
                self._set(RUNNING)

    def _set(self, phase: str) -> None:
        if self.phase == RUNNING:
            self.trained += time.perf_counter() - self.resumed_at
        self.phase, self.resumed_at = phase, time.perf_counter()
        self.spoken = phase != RUNNING          # the numbers change twice a second then
        if phase == RUNNING:
            self._label()
            self.go_on.set()

    def _label(self) -> None:
        """The buttons say what they would do; only once nobody reads the student may they say that it rests."""
        self.go.description, self.go.icon = {READY: ("start", "play"), RUNNING: ("pause", "pause"),
                                             PAUSED: ("resume", "play"), ENDED: ("ended", "check")}[self.phase]
        ended = self.phase == ENDED
        self.go.tooltip = "run the cell again for another run" if ended else f"{self.go.description} the run"
        self.go.disabled = self.halt.disabled = ended

    def _train(self) -> None:
        forget = on_kernel_interrupt(self.stop)
        try:
            self.run = self.job()
        except Exception as error:      # whatever it is, the page is where the learner looks
            self.error = str(error) if isinstance(error, KdlabError) else f"{type(error).__name__}: {error}"
        finally:
            forget()
            with self.drawing:
                self._set(ENDED)
                self.bar.value, self.bar.bar_style = self.run.steps, "danger" if self.error else "success"
                self.refresh()
                if self.error:
                    self.alert("The run ended with an error", self.error)
                self._label()

    def _after_step(self, run: Run) -> bool:
        """Called by the run, in its thread, between two steps."""
        if self.run is not run:
            self.run, self.before = run, run.steps - 1
        if not self.go_on.is_set() and not self.stopping:
            with self.drawing:
                self._set(PAUSED)
                self.bar.value = run.steps
                self.refresh()
                self._label()
            self.go_on.wait()
            with self.drawing:      # "stop" may have woken it, not "resume"
                if self.phase == PAUSED:
                    self._set(RUNNING)
        elif time.perf_counter() - self.drawn_at > SECONDS_BETWEEN:
            self.bar.value = run.steps
            self.refresh()
        return self.stopping


def _classifies(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")
