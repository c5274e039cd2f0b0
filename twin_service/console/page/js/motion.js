// Where a task stands between two snapshots: dead reckoning on the boundaries that the twin reckons with.

const SETTLE_MS = 140;
/** Without a newer snapshot for so long, the position stays where it is. */
const HOLD_MS = 1500;

/** Position 0..segments of a task of `age_s`; `boundaries_s`: service start to epochs 1, 2, ... */
export function positionAt(boundaries_s, age_s) {
  let began_s = 0;
  for (const [done, ended_s] of boundaries_s.entries()) {
    if (age_s < ended_s) return done + Math.max(0, age_s - began_s) / (ended_s - began_s);
    began_s = Math.max(began_s, ended_s);
  }
  return boundaries_s.length;
}

export class Position {
  #task = null;
  #since = 0;
  #offset = 0;

  /** A snapshot's belief: `task` or null, at `now` (ms of performance.now). */
  take(task, now) {
    const shown = task && this.#task?.task_id === task.task_id ? this.at(now) : null;
    this.#task = task;
    this.#since = now;
    this.#offset = shown === null ? 0 : shown - task.position;
  }

  /** 0..segments, or null while idle. A corrected belief is eased into; a new task starts where it is. */
  at(now) {
    const task = this.#task;
    if (task === null) return null;
    const elapsed_ms = now - this.#since;
    const boundaries_s = task.boundaries_s;
    const age_s = task.started_age_s + Math.min(elapsed_ms, HOLD_MS) / 1000;
    const reckoned = boundaries_s.length ? positionAt(boundaries_s, age_s) : task.position;
    const eased = this.#offset * Math.exp(-elapsed_ms / SETTLE_MS);
    return Math.min(Math.max(reckoned + eased, 0), Math.max(boundaries_s.length, task.position));
  }

  /** What the snapshot itself said, for readers who want no motion. */
  get told() {
    return this.#task === null ? null : this.#task.position;
  }
}
