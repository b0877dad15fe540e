// Numbers, spans and times as people read them, each with its unit.
"use strict";

const figures = (() => {
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const fine = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 2 });
  const HUGE = 1e15; // as ids that are numbers: from here on digits are too many to be read
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  /** "1,234"; "–" where it is not known. */
  const count = (value) => (known(value) ? whole.format(value) : "–");

  /** A number that may be broken: "1,234", "12", "3.4", "0.056". */
  function number(value) {
    if (!known(value)) return "–";
    if (Math.abs(value) >= HUGE) return value.toExponential(2);
    return Math.abs(value) >= 10 || Number.isInteger(value) ? whole.format(value) : fine.format(value);
  }

  /** A large count in few characters, for axes: "950", "1.2k", "45M". */
  function compact(value) {
    if (Math.abs(value) >= HUGE) return number(value);
    for (const [unit, size] of [
      ["G", 1e9],
      ["M", 1e6],
      ["k", 1e3],
    ]) {
      if (Math.abs(value) >= size) return `${fine.format(Math.round((value / size) * 100) / 100)}${unit}`;
    }
    return number(value);
  }

  /** Dollars, as the command tells them: cents from a dime on, below it two significant digits. */
  function money(usd) {
    if (!known(usd)) return "–";
    if (usd < 0) return `-${money(-usd)}`;
    if (usd >= 999.995) return `$${whole.format(usd)}`;
    if (usd >= 0.0995 || usd === 0) return `$${usd.toFixed(2)}`;
    return usd < 1e-6 ? "<$0.000001" : `$${usd.toFixed(Math.min(1 - Math.floor(Math.log10(usd)), 8))}`;
  }

  /** "37.5%"; below the whole never "100.0%", above nothing never "0.0%". */
  function share(part, all) {
    if (!known(part) || !all) return "–";
    const percent = (part / all) * 100;
    if (part >= all) return `${percent.toFixed(percent > 100.05 ? 1 : 0)}%`;
    if (part > 0 && percent < 0.1) return "<0.1%";
    return part <= 0 ? "0%" : `${Math.min(percent, 99.9).toFixed(1)}%`;
  }

  /** How much of a cap is used: "99.7%". It is rounded down, and may be above "100.0%". */
  const used = (part, cap) => (cap > 0 ? `${(Math.floor((part / cap) * 1000 + 1e-9) / 10).toFixed(1)}%` : "all");

  /** Seconds as "0.4 s", "38 s", "9 min 58 s", "2 h 05 min", "3 d 4 h". */
  function duration(seconds) {
    if (!known(seconds)) return "–";
    const length = Math.max(0, seconds);
    if (length < 9.95) return `${length.toFixed(1)} s`;
    const all = Math.round(length);
    const [d, h, m, s] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
    const two = (part) => String(part).padStart(2, "0");
    if (d) return `${d} d ${h} h`;
    if (h) return m ? `${h} h ${two(m)} min` : `${h} h`;
    if (m) return s ? `${m} min ${two(s)} s` : `${m} min`;
    return `${s} s`;
  }

  /** The same without what is zero, for the ticks of an axis: "30 s", "2 min", "1 h 30 min". */
  function tick(seconds) {
    const parts = [
      [86400, "d"],
      [3600, "h"],
      [60, "min"],
      [1, "s"],
    ];
    const words = [];
    let rest = Math.round(seconds);
    for (const [size, unit] of parts) {
      if (rest >= size) words.push(`${Math.floor(rest / size)} ${unit}`);
      rest %= size;
    }
    return words.slice(0, 2).join(" ") || "0";
  }

  /** Milliseconds as "85 ms", "1.2 s", "9 min 58 s". */
  function milliseconds(value) {
    if (!known(value)) return "–";
    if (value < 999.5) return `${number(value < 10 ? Math.round(value * 10) / 10 : value)} ms`;
    return value < 9950 ? `${(value / 1000).toFixed(1)} s` : duration(value / 1000);
  }

  /** A value of a distribution, by its unit ("ms", "tokens"). */
  const measured = (value, unit) => (unit === "ms" ? milliseconds(value) : `${number(value)} ${unit}`);

  /** "812 MB", "1.2 GB". */
  const memory = (mb) => (known(mb) ? (mb < 999.5 ? `${whole.format(mb)} MB` : `${(mb / 1024).toFixed(1)} GB`) : "–");

  /** "0.4 rows/s", "1,234 rows/s". */
  const rate = (value, of) =>
    known(value) ? `${number(value < 10 ? Math.round(value * 10) / 10 : value)} ${of}/s` : "–";

  /** "1 row", "2 rows". */
  const some = (value, what) => `${count(value)} ${what}${value === 1 ? "" : "s"}`;

  const local = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const short = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
  const zone =
    new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" })
      .formatToParts(new Date())
      .find((part) => part.type === "timeZoneName")?.value ?? "";

  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" }).format;
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" }).format;

  /** Seconds since 1970 in the reader's zone: "29 Nov 2026, 15:47:10". */
  const time = (at) => (known(at) ? local.format(new Date(at * 1000)) : "–");
  /** The same without the year, for tables: "29 Nov, 15:47:10"; and without the day. */
  const clock = (at) => (known(at) ? short.format(new Date(at * 1000)) : "–");
  const when = (at) => (known(at) ? `${day(new Date(at * 1000))}, ${clock(at)}` : "–");
  const utc = (at) => `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

  return {
    known,
    count,
    number,
    compact,
    money,
    share,
    used,
    duration,
    tick,
    milliseconds,
    measured,
    memory,
    rate,
    some,
    time,
    clock,
    when,
    day,
    hour,
    utc,
    zone,
  };
})();
