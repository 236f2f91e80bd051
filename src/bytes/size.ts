/** Sizes as people write them, and as we print them. */
import { DiskError } from "../errors.js";

const BINARY = ["K", "M", "G", "T", "P", "E"] as const;
const SIZE_PATTERN = /^(\d+(?:\.\d+)?)\s*(?:([KMGTPE])(i?B)?|(s)|B)?$/i;

/**
 * `512`, `4K`, `1.5T`, `20GiB` (powers of 1024), `20GB` (powers of 1000), `2048s` (512-byte sectors) to bytes.
 * A fraction of a unit (`1.3K`) is rounded up to a whole byte. Throws `UNSUPPORTED` for another form, or more than 2^53-1.
 */
export function parseSize(text: string, what = "size"): number {
  const match = SIZE_PATTERN.exec(text.trim());
  if (!match)
    throw badSize(text, what, "allowed are bytes, or a number with K M G T P E (1024), KB MB GB (1000) or s (sectors)");
  const [, digits, unit, suffix, sectors] = match;
  const exact = Number(digits) * (sectors ? 512 : unit ? factor(unit, suffix) : 1);
  const value = unit ? Math.ceil(exact) : exact;
  if (!Number.isInteger(value)) throw badSize(text, what, "it is no whole number of bytes");
  if (!Number.isSafeInteger(value)) throw badSize(text, what, "allowed up to 2^53-1 bytes (8 PiB)");
  return value;
}

function factor(unit: string, suffix: string | undefined): number {
  const power = BINARY.indexOf(unit.toUpperCase() as (typeof BINARY)[number]) + 1;
  return (suffix && !/^i/i.test(suffix) ? 1000 : 1024) ** power;
}

function badSize(text: string, what: string, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot read ${what} ${JSON.stringify(text)}: ${why}`, {
    details: { usage: true, value: text },
  });
}

/** Two sizes for people, as bytes where rounding would hide that they differ. */
export function formatSizes(one: number, other: number): [string, string] {
  const [a, b] = [formatSize(one), formatSize(other)];
  return a === b && one !== other ? [`${one} bytes`, `${other} bytes`] : [a, b];
}

/** Bytes for people: `2 GiB`, `1.5 MiB`, `512 B`. */
export function formatSize(size: number): string {
  let value = size;
  let unit = -1;
  while (value >= 1024 && unit < BINARY.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit < 0) return `${size} B`;
  const digits = value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${BINARY[unit]}iB`;
}
