// Numbers and times as people read and hear them.

const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const units = ["B", "kB", "MB", "GB", "TB"];

/** 75 is "1:15", 3675 is "1:01:15". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

/** 75 is "1 minute 15 seconds", for screen readers. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[Math.floor(whole / 3600), "hour"], [Math.floor(whole / 60) % 60, "minute"], [whole % 60, "second"]];
  const named = parts.filter(([count]) => count).map(([count, name]) => `${count} ${name}${count === 1 ? "" : "s"}`);
  return named.join(" ") || "0 seconds";
}

/** 1234567 is "1.2 MB". */
export function bytes(count) {
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit && count < 9.95 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** "Today, 14:05" or "28 Nov, 14:05", in the reader's language. */
export function moment(iso) {
  const [when, now] = [new Date(iso), new Date()];
  const date = when.getFullYear() === now.getFullYear() ? day : dayAndYear;
  const today = now.toDateString() === when.toDateString();
  return `${today ? "Today" : date.format(when)}, ${time.format(when)}`;
}

/** "2026-11" is "November 2026". */
export function month(text) {
  const [year, number] = text.split("-").map(Number);
  return new Intl.DateTimeFormat(undefined, { month: "short", year: "numeric" }).format(new Date(year, number - 1, 1));
}
