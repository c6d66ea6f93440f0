"""Lightning's counters in a checkpoint, made to say exactly where a run was, whatever hook it was saved in."""

from typing import Any


def settle(loops: dict[str, Any], done: int, n_batches: int) -> None:
    """Rewrites the counters to the place that a run goes on from.

    Lightning raises its counters one by one between hooks, and guesses from their differences where a checkpoint was
    saved. Settled counters agree with one another: so many epochs are over, and so many batches of the next.

    Args:
        loops: State of the fit loop, as in `checkpoint["loops"]["fit_loop"]`; changed in place.
        done: Batches of the epoch under way that have been trained on; all of them if it is over.
        n_batches: Batches in an epoch.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    is_over = done == n_batches
    for count in (epochs["total"], epochs["current"]):
        finished = count["ready"] if is_over else max(0, count["ready"] - 1)
        begun = finished if is_over or done == 0 else finished + 1
        count.update(ready=begun, started=begun, processed=finished, completed=finished)
    trained = batches["total"]["processed"]
    batches["total"].update(ready=trained, started=trained, completed=trained)
    within = 0 if is_over else done
    batches["current"].update(ready=within, started=within, processed=within, completed=within)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = trained
