/**
 * The grammar of xl.cfg(5) (libxlu_cfg in behaviour):
 *
 *   file       = { [ assignment ] ( NEWLINE | ";" ) } [ assignment ]
 *   assignment = IDENT ( "=" | "+=" ) value
 *   value      = STRING | NUMBER | "[" [ value { "," value } [ "," ] ] "]"      lines may end anywhere within brackets
 *
 * A later assignment of a name replaces the one before; `+=` joins strings to strings and lists to lists.
 * The first error ends it. Unlike xl, whose escapes \x and \0 lose a character, these mean what they mean in C.
 */
import { DiskError } from "../../errors.js";
import { configError, type Token, type TokenKind, Tokens } from "./config-tokens.js";

export type XlValue =
  | { readonly kind: "atom"; readonly text: string; readonly line: number }
  | { readonly kind: "list"; readonly items: readonly XlValue[]; readonly line: number };

export interface XlSetting {
  readonly name: string;
  readonly value: XlValue;
  /** Whether `+=` made it. */
  readonly joined: boolean;
  readonly line: number;
}

const MAX_LENGTH = 1 << 20; // characters of a file
const MAX_SETTINGS = 4096;
const MAX_ITEMS = 4096; // of a list, also of a joined one
const MAX_DEPTH = 8;

/** By name, in the order in which they were last set. Throws `UNSUPPORTED` with source and line. */
export function readSettings(text: string, source: string): Map<string, XlSetting> {
  if (text.length > MAX_LENGTH)
    throw new DiskError(
      "UNSUPPORTED",
      `${source}: cannot read the configuration: it has ${text.length} characters, allowed ${MAX_LENGTH}`,
    );
  return new ConfigReader(text, source).readFile();
}

class ConfigReader {
  readonly #source: string;
  readonly #tokens: Tokens;
  readonly #settings = new Map<string, XlSetting>();
  #token: Token;

  constructor(text: string, source: string) {
    this.#source = source;
    this.#tokens = new Tokens(text, source);
    this.#token = this.#tokens.next();
  }

  readFile(): Map<string, XlSetting> {
    for (let count = 0; !this.#at("END"); ) {
      if (this.#at("IDENT")) {
        if (++count > MAX_SETTINGS) throw this.#fail(`too many assignments, allowed ${MAX_SETTINGS}`);
        this.#readAssignment();
      } else if (!this.#at("NEWLINE") && !this.#at(";")) throw this.#unexpected("IDENT");
      if (!this.#at("END")) this.#take("NEWLINE", ";");
    }
    return this.#settings;
  }

  #readAssignment(): void {
    const name = this.#take("IDENT");
    const joined = this.#take("=", "+=").kind === "+=";
    const added = this.#readValue(0);
    const before = joined ? this.#settings.get(name.value) : undefined;
    const value = before ? this.#join(before.value, added, name) : added;
    this.#settings.delete(name.value); // a Map keeps the place of the first
    this.#settings.set(name.value, { name: name.value, value, joined, line: name.line });
  }

  #readValue(depth: number): XlValue {
    const first = this.#take("STRING", "NUMBER", "[");
    if (first.kind !== "[") return { kind: "atom", text: first.value, line: first.line };
    if (depth >= MAX_DEPTH) throw this.#fail(`lists within lists, allowed ${MAX_DEPTH} levels`, first);
    const items: XlValue[] = [];
    for (this.#skipLines(); !this.#at("]"); this.#skipLines()) {
      if (items.length >= MAX_ITEMS) throw this.#fail(`too many values in a list, allowed ${MAX_ITEMS}`);
      items.push(this.#readValue(depth + 1));
      this.#skipLines();
      if (this.#at("]")) break;
      this.#take(",");
    }
    this.#take("]");
    return { kind: "list", items, line: first.line };
  }

  #join(before: XlValue, added: XlValue, name: Token): XlValue {
    if (before.kind === "atom" && added.kind === "atom") return { ...added, text: before.text + added.text };
    if (before.kind !== "list" || added.kind !== "list")
      throw this.#fail("a list and a string cannot be joined by +=", name);
    if (before.items.length + added.items.length > MAX_ITEMS)
      throw this.#fail(`too many values in a list, allowed ${MAX_ITEMS}`, name);
    return { ...added, items: [...before.items, ...added.items] };
  }

  #at(kind: TokenKind): boolean {
    return this.#token.kind === kind;
  }

  #skipLines(): void {
    while (this.#at("NEWLINE")) this.#token = this.#tokens.next();
  }

  #take(...kinds: readonly TokenKind[]): Token {
    const token = this.#token;
    if (!kinds.includes(token.kind)) throw this.#unexpected(...kinds);
    this.#token = this.#tokens.next();
    return token;
  }

  #unexpected(...kinds: readonly TokenKind[]): DiskError {
    const found = this.#token.kind === "END" ? "end of file" : this.#token.kind;
    return this.#fail(`syntax error, unexpected ${found}, expecting ${kinds.join(" or ")}`);
  }

  #fail(message: string, token = this.#token): DiskError {
    return configError(this.#source, token, message);
  }
}
