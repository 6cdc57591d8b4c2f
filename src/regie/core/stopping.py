"""How a run fails as a whole, whatever its steps come to: its deadline is over, or it may make no more changes.

Nothing new begins, `on-error` included; work that is out is awaited and recorded; what only waits ends. Then what can
be taken back is, and the ticket is told, as after any failure. An engine sets the deadline's timer when it accepts the
run; the interpreter calls the rest with its working copy of the run.
"""

from __future__ import annotations

from regie.core import cancelling, ladder
from regie.core.definition import Definition
from regie.core.durations import in_words
from regie.core.errors import Failure, LimitReached
from regie.core.places import ANSWER, undone_place
from regie.core.run import RunFacts
from regie.core.run_commands import SetTimer

DEADLINE = "stop:run:0"
"""The timer of `sla.stop`. `run` is no legal step id, so no step's timer has this name."""


def timers(definition: Definition, facts: RunFacts) -> tuple[SetTimer, ...]:
    """The timers that run from the moment a run is accepted. A dry run waits for nothing and has none."""
    if definition.sla_stop_s is None or facts.dry:
        return ()
    return (SetTimer(timer=DEADLINE, after_s=definition.sla_stop_s),)


def take_deadline(life: ladder.Life) -> None:
    """The time of the whole run is over."""
    allowed_s = life.definition.sla_stop_s or 0.0
    message = f"The run as a whole did not come to its end within {in_words(allowed_s)}."
    stop(life, Failure(kind="TimedOut", message=message))


def take_failure(life: ladder.Life, failure: Failure) -> None:
    """A step has failed: one that the run's limit has stopped, stops the run where nobody can be asked for more."""
    if failure.kind == LimitReached.__name__:
        stop(life, failure)


def stop(life: ladder.Life, why: Failure) -> None:
    """Fail the run as a whole, unless it is cut off or coming to its end already."""
    is_ending = ANSWER in life.steps or any(undone_place(place) is not None for place in life.steps)
    if not (life.is_cut or is_ending):
        life.stopped = why
        cancelling.cut(life)
