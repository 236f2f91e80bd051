/** Sizes as LVM2's reports print them. libdm/libdm-string.c, dm_size_to_string. */
import { DiskError } from "../../errors.js";

export interface Units {
  /** `r h b s k m g t p e`; upper case: powers of 1000. */
  readonly unit: string;
  readonly suffix: boolean;
}

const LETTERS = "BKMGTPE";

/** `--units`: one letter. */
export function parseUnits(text: string, suffix: boolean): Units {
  if (/^[rRhHbBsSkKmMgGtTpPeE]$/.test(text)) return { unit: text, suffix };
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot use units ${JSON.stringify(text)}: allowed r h b s k m g t p e, upper case for powers of 1000`,
    {
      details: { usage: true },
    },
  );
}

/** Bytes as text: `9.00m`, `<127.00g` where more digits would show less. */
export function printSize(bytes: number, { unit, suffix }: Units): string {
  const lower = unit.toLowerCase();
  const readable = lower === "h" || lower === "r";
  if (lower === "b") return suffix ? `${bytes}B` : String(bytes);
  if (lower === "s") return suffix ? `${Math.floor(bytes / 512)}S` : String(Math.floor(bytes / 512));
  const lettered = suffix || readable; // a readable size says nothing without its letter
  if (bytes === 0) return zero(unit, readable, suffix);
  const base = unit === lower ? 1024 : 1000;
  let power = LETTERS.indexOf(lower.toUpperCase());
  if (readable) {
    power = 1;
    while (power < LETTERS.length - 1 && bytes >= base ** (power + 1)) power++;
  }
  const letter = base === 1024 ? LETTERS[power]!.toLowerCase() : LETTERS[power]!;
  const { text, less } = twoDigits(bytes, base ** power);
  const sign = lower === "r" && less ? "<" : "";
  return `${sign}${text}${lettered ? letter : ""}`;
}

/** As C prints `%.2f`: a half goes to the even digit. `less`: the value is below what is shown. */
function twoDigits(bytes: number, unit: number): { text: string; less: boolean } {
  if (bytes % unit === 0) return { text: `${bytes / unit}.00`, less: false }; // as most sizes are
  const [scaled, divisor] = [BigInt(bytes) * 100n, BigInt(unit)];
  const [down, rest] = [scaled / divisor, (scaled % divisor) * 2n];
  const up = rest > divisor || (rest === divisor && down % 2n === 1n);
  const digits = String(up ? down + 1n : down).padStart(3, "0");
  return { text: `${digits.slice(0, -2)}.${digits.slice(-2)}`, less: up };
}

function zero(unit: string, readable: boolean, suffix: boolean): string {
  if (readable) return suffix ? "0 " : "0";
  return suffix ? `0${unit === unit.toLowerCase() ? unit : unit.toUpperCase()}` : "0";
}
