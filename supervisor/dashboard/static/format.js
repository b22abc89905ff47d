// Numbers for people, with their units.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];
export const NONE = "–";

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : size >= 0.1 ? 2 : 3);
}

export function count(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return size >= 1000 ? Math.round(value).toLocaleString("en") : digits(value);
}

export function rate(value) {
  return value === null || value === undefined ? NONE : `${count(value)}/s`;
}

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  return size < 120 ? `${digits(value)} s` : span(value);
}

// A longer time, in its two largest units.
export function span(value) {
  const whole = Math.max(0, Math.round(value));
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1000 && unit < BYTES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit ? digits(size) : size} ${BYTES[unit]}`;
}

export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const value = share * 100;
  if (value === 0 || value === 100) return `${value} %`;
  return `${value < 0.1 ? "< 0.1" : value > 99.9 ? "> 99.9" : value.toFixed(1)} %`;
}

export function clock(unix, withSeconds = true) {
  const at = new Date(unix * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return withSeconds ? `${minutes}:${two(at.getSeconds())}` : minutes;
}
