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

const BLANK = /[\s\0]+|#[^\n]*/y;
const KEY = /[^\s\0#={}"'[\],]+/y;
/** As many digits as 64 bits have; LVM2 reads a leading zero as octal and never writes one. */
const NUMBER = /[+-]?(?:0|[1-9]\d{0,19})(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?(?![\w.])/y;

class Parser {
  readonly #text: string;
  readonly #what: string;
  #at = 0;

  constructor(text: string, what: string) {
    this.#text = text;
    this.#what = what;
    this.#skip();
  }

  atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  entries(depth: number): Entry[] {
    if (depth > MAX_DEPTH) throw this.#bad(`sections are nested deeper than ${MAX_DEPTH}`);
    const entries: Entry[] = [];
    for (let key = this.#take(KEY); key !== null; key = this.#take(KEY)) {
      if (this.#eat("{")) {
        entries.push({ kind: "section", key, entries: this.entries(depth + 1) });
        if (!this.#eat("}")) throw this.unexpected("}");
      } else if (this.#eat("=")) {
        entries.push({ kind: "assign", key, value: this.#value() });
      } else {
        throw this.unexpected(`= or { after ${JSON.stringify(key.slice(0, 40))}`);
      }
    }
    return entries;
  }

  #value(): ConfigValue {
    if (!this.#eat("[")) return this.#scalar();
    const values: Scalar[] = [];
    while (!this.#eat("]")) {
      values.push(this.#scalar());
      if (this.#eat(",")) continue;
      if (!this.#eat("]")) throw this.unexpected(", or ]");
      break;
    }
    return values;
  }

  #scalar(): Scalar {
    const quote = this.#text[this.#at];
    if (quote === '"' || quote === "'") return this.#string(quote);
    const number = this.#take(NUMBER);
    if (number === null) throw this.unexpected("a number, a string or a list");
    if (/[.eE]/.test(number)) return { float: number };
    const value = Number(number);
    return Number.isSafeInteger(value) ? value : BigInt(number);
  }

  /** Only in double quotes a backslash takes the next character as it is. */
  #string(quote: string): string {
    const text = this.#text;
    const start = this.#at + 1;
    let end = start;
    while (end < text.length && text[end] !== quote) end += quote === '"' && text[end] === "\\" ? 2 : 1;
    if (end >= text.length) throw this.#bad("a string has no end");
    this.#at = end + 1;
    this.#skip();
    const inside = text.slice(start, end);
    return quote === '"' ? inside.replace(/\\([\s\S])/g, "$1") : inside;
  }

  /** The match at the present place, with the blanks and comments behind it skipped; null when there is none. */
  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) return null;
    this.#at += match[0].length;
    this.#skip();
    return match[0];
  }

  #eat(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    this.#skip();
    return true;
  }

  #skip(): void {
    const text = this.#text;
    for (;;) {
      BLANK.lastIndex = this.#at;
      const length = BLANK.exec(text)?.[0].length ?? 0;
      if (length === 0) return;
      this.#at += length;
    }
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
