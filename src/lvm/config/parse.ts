/**
 * Text to tree. Grammar (LVM2 libdm/libdm-config.c):
 *
 *   file    := { assign | section }              '#' begins a comment to the end of the line
 *   assign  := key '=' value                     section := key '{' { assign | section } '}'
 *   value   := scalar | '[' [ scalar { ',' scalar } [','] ] ']'
 *   scalar  := integer | float | string          string := "…" with \" and \\, or '…'
 *
 * The text comes from a disk: nesting is bounded, work and memory are linear in its length.
 */
import { DiskError } from "../../errors.js";
import type { ConfigValue, Entry, Scalar } from "./tree.js";

const MAX_DEPTH = 32;

/** `what` names the text in errors. Throws `CORRUPT` with the line of the first thing that does not fit. */
export function parseConfig(text: string, what: string): Entry[] {
  const parser = new Parser(text, what);
  const entries = parser.entries(0);
  if (!parser.atEnd()) throw parser.unexpected("an assignment or a section");
  return entries;
}

/** As many digits as 64 bits have; LVM2 reads a leading zero as octal and never writes one. */
const NUMBER = /[+-]?(?:0|[1-9]\d{0,19})(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?(?![\w.])/y;

const [NUL, LINE_FEED, HASH, COMMA, EQUALS] = [0x00, 0x0a, 0x23, 0x2c, 0x3d];
const [OPEN_LIST, CLOSE_LIST, OPEN_SECTION, CLOSE_SECTION] = [0x5b, 0x5d, 0x7b, 0x7d];
const [QUOTE, APOSTROPHE, ZERO, NINE] = [0x22, 0x27, 0x30, 0x39];

/** By character code; others are blank when `\s` says so. */
const BLANKS: ReadonlySet<number> = new Set([NUL, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20, 0xa0]);
const NO_KEY: ReadonlySet<number> = new Set([
  ...[HASH, COMMA, EQUALS, OPEN_LIST, CLOSE_LIST, OPEN_SECTION, CLOSE_SECTION, QUOTE, APOSTROPHE],
]);
/** One byte a character, 0: a blank, 1: belongs to no key, 2: to one. Texts are Latin-1; a group of thousands of volumes is read at each start. */
const KINDS = Uint8Array.from({ length: 256 }, (_, code) => (BLANKS.has(code) ? 0 : NO_KEY.has(code) ? 1 : 2));
const kindOf = (code: number) => (code < 256 ? KINDS[code]! : /\s/.test(String.fromCharCode(code)) ? 0 : 2);

class Parser {
  readonly #text: string;
  readonly #what: string;
  readonly #hasEscapes: boolean;
  #at = 0;

  constructor(text: string, what: string) {
    this.#text = text;
    this.#what = what;
    this.#hasEscapes = text.includes("\\");
    this.#skip();
  }

  atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  entries(depth: number): Entry[] {
    if (depth > MAX_DEPTH) throw this.#bad(`sections are nested deeper than ${MAX_DEPTH}`);
    const entries: Entry[] = [];
    for (let key = this.#key(); key !== ""; key = this.#key()) {
      if (this.#eat(OPEN_SECTION)) {
        entries.push({ kind: "section", key, entries: this.entries(depth + 1) });
        if (!this.#eat(CLOSE_SECTION)) throw this.unexpected("}");
      } else if (this.#eat(EQUALS)) {
        entries.push({ kind: "assign", key, value: this.#value() });
      } else {
        throw this.unexpected(`= or { after ${JSON.stringify(key.slice(0, 40))}`);
      }
    }
    return entries;
  }

  /** Empty when none begins here. */
  #key(): string {
    const text = this.#text;
    const start = this.#at;
    let end = start;
    while (end < text.length && kindOf(text.charCodeAt(end)) === 2) end++;
    if (end === start) return "";
    this.#at = end;
    this.#skip();
    return text.slice(start, end);
  }

  #value(): ConfigValue {
    if (!this.#eat(OPEN_LIST)) return this.#scalar();
    const values: Scalar[] = [];
    while (!this.#eat(CLOSE_LIST)) {
      values.push(this.#scalar());
      if (this.#eat(COMMA)) continue;
      if (!this.#eat(CLOSE_LIST)) throw this.unexpected(", or ]");
      break;
    }
    return values;
  }

  #scalar(): Scalar {
    const code = this.#text.charCodeAt(this.#at);
    if (code === QUOTE || code === APOSTROPHE) return this.#string(code);
    return this.#digits() ?? this.#number();
  }

  /** A plain number of few digits, which most are; null for anything else. */
  #digits(): number | null {
    const text = this.#text;
    let end = this.#at;
    let value = 0;
    for (let code = text.charCodeAt(end); code >= ZERO && code <= NINE; code = text.charCodeAt(++end))
      value = value * 10 + code - ZERO;
    const length = end - this.#at;
    const isPlain = length > 0 && length < 16 && (length === 1 || text.charCodeAt(this.#at) !== ZERO);
    if (!isPlain || /[\w.]/.test(text.charAt(end))) return null;
    this.#at = end;
    this.#skip();
    return value;
  }

  #number(): Scalar {
    NUMBER.lastIndex = this.#at;
    const number = NUMBER.exec(this.#text)?.[0];
    if (number === undefined) throw this.unexpected("a number, a string or a list");
    this.#at += number.length;
    this.#skip();
    if (/[.eE]/.test(number)) return { float: number };
    const value = Number(number);
    return Number.isSafeInteger(value) ? value : BigInt(number);
  }

  /** Only in double quotes a backslash takes the next character as it is. */
  #string(quote: number): string {
    const text = this.#text;
    const start = this.#at + 1;
    const escapes = quote === QUOTE && this.#hasEscapes;
    let end = start;
    if (escapes) while (end < text.length && text.charCodeAt(end) !== quote) end += text[end] === "\\" ? 2 : 1;
    else end = text.indexOf(quote === QUOTE ? '"' : "'", start);
    if (end < 0 || end >= text.length) throw this.#bad("a string has no end");
    this.#at = end + 1;
    this.#skip();
    const inside = text.slice(start, end);
    return escapes ? inside.replace(/\\([\s\S])/g, "$1") : inside;
  }

  #eat(code: number): boolean {
    if (this.#text.charCodeAt(this.#at) !== code) return false;
    this.#at++;
    this.#skip();
    return true;
  }

  /** Over blanks, and comments to the ends of their lines. */
  #skip(): void {
    const text = this.#text;
    let at = this.#at;
    while (at < text.length) {
      const code = text.charCodeAt(at);
      if (kindOf(code) === 0) at++;
      else if (code !== HASH) break;
      else while (at < text.length && text.charCodeAt(at) !== LINE_FEED) at++;
    }
    this.#at = at;
  }

  unexpected(wanted: string): DiskError {
    const found = this.atEnd() ? "the end" : JSON.stringify(this.#text.slice(this.#at, this.#at + 20));
    return this.#bad(`${found} stands where ${wanted} should be`);
  }

  #bad(found: string): DiskError {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    return new DiskError("CORRUPT", `Cannot read ${this.#what}: ${found} (line ${line})`, { details: { line } });
  }
}
