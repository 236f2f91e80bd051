/** The words of an xl.cfg(5) file: names, numbers, quoted strings, punctuation, ends of lines. */
import { DiskError } from "../../errors.js";

export type TokenKind = "IDENT" | "NUMBER" | "STRING" | "NEWLINE" | "END" | "," | "[" | "]" | "=" | "+=" | ";";

export interface Token {
  readonly kind: TokenKind;
  /** As it stands in the file. */
  readonly text: string;
  /** What it means: a string without its quotes and escapes. */
  readonly value: string;
  /** From 1. */
  readonly line: number;
}

const PATTERNS: readonly (readonly [TokenKind | null, RegExp])[] = [
  [null, /[ \t]+/y],
  ["IDENT", /[a-z][_0-9a-z]*/y],
  ["NUMBER", /[0-9][0-9a-fx]*/y],
  ["STRING", /'[^'\\\n]*(?:\\[^\n][^'\\\n]*)*'|"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"/y],
  ["NEWLINE", /(?:#[^\n]*)?\n/y],
  [null, /#[^\n]*/y], // a comment at the very end
  ["+=", /\+=/y],
  [",", /,/y],
  ["[", /\[/y],
  ["]", /\]/y],
  ["=", /=/y],
  [";", /;/y],
];

/** The tokens one after the other, and then END for ever. */
export class Tokens {
  readonly #text: string;
  readonly #source: string;
  #at = 0;
  #line = 1;

  constructor(text: string, source: string) {
    this.#text = text;
    this.#source = source;
  }

  next(): Token {
    for (;;) {
      if (this.#at >= this.#text.length) return { kind: "END", text: "", value: "", line: this.#line };
      const { kind, text } = this.#match();
      this.#at += text.length;
      const line = this.#line;
      if (kind === "NEWLINE") this.#line++;
      if (kind !== null) return { kind, text, value: kind === "STRING" ? this.#unquote(text) : text, line };
    }
  }

  #match(): { kind: TokenKind | null; text: string } {
    for (const [kind, pattern] of PATTERNS) {
      pattern.lastIndex = this.#at;
      const match = pattern.exec(this.#text);
      if (match) return { kind, text: match[0] };
    }
    const word = /[^ \t\n]*/y;
    word.lastIndex = this.#at;
    const text = word.exec(this.#text)![0];
    const hint = /^[+\-.():]/.test(text) ? ", this is no Python" : "";
    throw configError(this.#source, { kind: "END", text, value: "", line: this.#line }, `lexical error${hint}`);
  }

  /** C's escapes: \" \' \\ \a \b \f \n \r \t \v, \xHH and \o \oo \ooo. */
  #unquote(quoted: string): string {
    return quoted
      .slice(1, -1)
      .replace(/\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([\s\S]))/g, (_, hex, octal, char: string) => {
        if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
        if (octal !== undefined && Number.parseInt(octal, 8) < 256)
          return String.fromCharCode(Number.parseInt(octal, 8));
        const plain = char === undefined ? undefined : ESCAPES[char];
        if (plain !== undefined) return plain;
        const token: Token = { kind: "STRING", text: quoted, value: "", line: this.#line };
        const why = char === "x" ? "two hex digits after \\x" : "one of \" ' \\ a b f n r t v x, or octal up to 377";
        throw configError(this.#source, token, `invalid escape after backslash in quoted string, allowed ${why}`);
      });
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "'": "'",
  "\\": "\\",
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

const MAX_SHOWN = 80;

/** xl's form: `web.cfg:3: config parsing error near ...`. */
export function configError(source: string, token: Token, message: string): DiskError {
  const text = token.text.replace(/\n$/, "");
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what must not reach a terminal
  const printable = shown.replace(/[\x00-\x1f\x7f]/g, "?");
  const near = printable ? `\`${printable}'` : token.kind === "NEWLINE" ? "<newline>" : "the end of the file";
  return new DiskError("UNSUPPORTED", `${source}:${token.line}: config parsing error near ${near}: ${message}`, {
    details: { source, line: token.line },
  });
}
