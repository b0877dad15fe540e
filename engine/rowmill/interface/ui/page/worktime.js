// The time axis: time at work. A pause between sessions is cut to a narrow gap, so that a run that was killed on Monday
// and resumed on Thursday can be read.
"use strict";

const worktime = (() => {
  const LONGEST = 3; // seconds that may lie between two moments of one stretch of work
  const GAP = 0.025; // width of a longer pause, as part of the time at work
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

  /** The stretches of work: moments [first, past] that follow each other, with their start and end. */
  function stretches(timeline) {
    const found = [];
    timeline.at.forEach((end, place) => {
      const start = end - timeline.seconds[place];
      const last = found.at(-1);
      if (
        last &&
        start - last.end <= LONGEST &&
        start > last.end - LONGEST &&
        timeline.session[place] === timeline.session[last.past - 1]
      ) {
        last.end = Math.max(last.end, end);
        last.past = place + 1;
      } else {
        const from = last ? Math.max(start, last.end) : start;
        found.push({ first: place, past: place + 1, start: from, end: Math.max(end, from + 0.001) });
      }
    });
    return found;
  }

  /** What places moments on the axis. */
  function of(timeline) {
    const parts = stretches(timeline);
    const worked = d3.sum(parts, (part) => part.end - part.start);
    let [x, done] = [0, 0];
    parts.forEach((part, place) => {
      const pause = place ? part.start - parts[place - 1].end : 0;
      part.cut = pause > worked * GAP;
      x += part.cut ? worked * GAP : pause;
      [part.x, part.done] = [x, done];
      x += part.end - part.start;
      done += part.end - part.start;
    });
    const all = x;

    /** Where a moment (seconds since 1970) is on the axis; in a pause it is somewhere in its gap. */
    function placed(at) {
      let before = null;
      for (const part of parts) {
        if (at < part.start) {
          if (!before) return part.x;
          const end = before.x + before.end - before.start;
          return end + (part.x - end) * ((at - before.end) / (part.start - before.end));
        }
        if (at <= part.end) return part.x + at - part.start;
        before = part;
      }
      return all;
    }

    /** Seconds at work before a moment. */
    function workedBefore(at) {
      let sum = 0;
      for (const part of parts) sum += Math.min(Math.max(0, at - part.start), part.end - part.start);
      return sum;
    }

    /** Where so much of the work was done. */
    function reached(seconds) {
      const part = parts.findLast((each) => each.done <= seconds) ?? parts[0];
      return part.x + seconds - part.done;
    }

    /** Ticks at round times of work: at most so many. */
    function ticks(most) {
      const step = STEPS.find((each) => worked / each <= most) ?? Math.ceil(worked / most / 86400) * 86400;
      return d3.range(0, worked + step / 1e6, step).map((at) => ({ x: reached(at), at }));
    }

    const cuts = parts.flatMap((part, place) =>
      part.cut
        ? [
            {
              x1: parts[place - 1].x + parts[place - 1].end - parts[place - 1].start,
              x2: part.x,
              seconds: part.start - parts[place - 1].end,
            },
          ]
        : [],
    );
    return { parts, worked, all, cuts, placed, workedBefore, ticks };
  }

  /**
   * The moments as steps of at least `least` seconds: [{part, x1, x2, from, to, seconds, places}].
   * places: the moments that are in it.
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
      [step.x1, step.x2] = [scale.placed(step.from), scale.placed(step.to)];
      step.x = (step.x1 + step.x2) / 2;
    }
    return made;
  }

  return { of, steps };
})();
