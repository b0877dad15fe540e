// The time axis: time at work. A pause between sessions is cut to a narrow gap, so that a run that was killed on Monday
// and resumed on Thursday can be read.
"use strict";

const worktime = (() => {
  const LONGEST = 3; // seconds that may lie between two moments of one stretch of work
  const GAP = 0.025; // width of a longer pause, as part of the time at work
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

  /**
   * The stretches of work: moments [first, past) that follow each other, from `start` to `end` by the machine's clock.
   * A clock that is set anew begins another one, wherever it stands then.
   */
  function stretches(timeline) {
    const found = [];
    timeline.at.forEach((end, place) => {
      const start = end - timeline.seconds[place];
      const last = found.at(-1);
      if (last && Math.abs(start - last.end) <= LONGEST && timeline.session[place] === timeline.session[last.first]) {
        last.end = Math.max(last.end, end);
        last.past = place + 1;
      } else {
        found.push({ first: place, past: place + 1, start, end });
      }
    });
    return found;
  }

  /** What places moments on the axis: `x` of a stretch is where it begins, `done` what was worked before. */
  function of(timeline) {
    const parts = stretches(timeline);
    const worked = d3.sum(parts, (part) => part.end - part.start);
    let [x, done, before] = [0, 0, null];
    for (const part of parts) {
      part.pause = before ? Math.max(0, part.start - before.end) : 0;
      part.cut = part.pause > worked * GAP;
      part.x = x + (part.cut ? worked * GAP : part.pause);
      part.done = done;
      part.endX = x = part.x + part.end - part.start;
      done += part.end - part.start;
      before = part;
    }

    /** The stretch in which a moment (seconds since 1970) is, or after which it is; -1: it is before all. */
    function found(at) {
      const within = parts.findIndex((part) => part.start <= at && at <= part.end);
      return within >= 0 ? within : parts.findLastIndex((part) => part.end < at);
    }

    /** Where a moment is on the axis; in a pause it is somewhere in its gap. */
    function placed(at) {
      const number = found(at);
      if (number < 0) return 0;
      const [part, next] = [parts[number], parts[number + 1]];
      if (at <= part.end) return part.x + at - part.start;
      if (!next || next.start <= at) return part.endX;
      return part.endX + (next.x - part.endX) * ((at - part.end) / (next.start - part.end));
    }

    /** Seconds at work before a moment. */
    function workedBefore(at) {
      const part = parts[found(at)];
      return part ? part.done + Math.min(at, part.end) - part.start : 0;
    }

    /** Ticks at round times of work: at most so many. */
    function ticks(most) {
      const step = STEPS.find((each) => worked / each <= most) ?? Math.ceil(worked / most / 86400) * 86400;
      return d3.range(0, worked + step / 1e6, step).map((at) => {
        const part = parts.findLast((each) => each.done <= at) ?? parts[0];
        return { x: part.x + at - part.done, at };
      });
    }

    const cuts = parts.flatMap((part, place) =>
      part.cut ? [{ x1: parts[place - 1].endX, x2: part.x, seconds: part.pause }] : [],
    );
    return { parts, worked, all: x, cuts, placed, workedBefore, ticks };
  }

  /**
   * The moments as steps of at least `least` seconds: [{part, x1, x2, x, from, to, seconds, places}].
   * part: number of its stretch. places: the moments that are in it.
   */
  function steps(scale, timeline, least) {
    const made = [];
    scale.parts.forEach((part, number) => {
      let step = null;
      let edge = part.start;
      for (let place = part.first; place < part.past; place += 1) {
        const end = Math.max(edge, timeline.at[place]);
        if (!step || step.to - step.from >= least) {
          step = { part: number, from: edge, to: end, seconds: 0, places: [] };
          made.push(step);
        }
        step.to = end;
        step.seconds += timeline.seconds[place];
        step.places.push(place);
        edge = end;
      }
    });
    for (const step of made) {
      const { x, start } = scale.parts[step.part];
      [step.x1, step.x2] = [x + step.from - start, x + step.to - start];
      step.x = (step.x1 + step.x2) / 2;
    }
    return made;
  }

  return { of, steps };
})();
