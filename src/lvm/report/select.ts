/**
 * `-S`: which rows are shown. Expressions of comparisons with && || ! and parentheses (lvmreport(7), Selections):
 *
 *   field = value   !=   >   >=   <   <=   =~ regular expression   !~        sizes take units: lv_size>1g
 */
import { parseSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { type Cells, type FieldKind, type FieldValue, isNumeric } from "./engine.js";

export type Selection = (row: Cells) => boolean;

/** `known` tells whether a report has a field. Throws wrong usage for text that is no selection. */
export function parseSelection(text: string, known: (name: string) => boolean): Selection {
  const parser = new SelectionParser(text, known);
  return parser.parse();
}

const TOKEN = /\s*(?:(&&|\|\||,|[()]|!=|>=|<=|=~|!~|=|>|<|!)|"([^"]*)"|'([^']*)'|([^\s()&|!=<>,~"']+))/y;
const MAX_DEPTH = 64;

interface Token {
  readonly symbol?: string;
  readonly word?: string;
}

class SelectionParser {
  readonly #text: string;
  readonly #known: (name: string) => boolean;
  readonly #tokens: Token[];
  #at = 0;
  #depth = 0;

  constructor(text: string, known: (name: string) => boolean) {
    this.#text = text;
    this.#known = known;
    this.#tokens = this.#split();
  }

  parse(): Selection {
    const selection = this.#either();
    if (this.#at < this.#tokens.length) throw this.#bad(`${this.#shown()} stands where it should end`);
    return selection;
  }

  #split(): Token[] {
    const tokens: Token[] = [];
    for (let at = 0; this.#text.slice(at).trim() !== ""; ) {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(this.#text);
      if (!match) throw this.#bad(`${JSON.stringify(this.#text.slice(at, at + 10))} is not understood`);
      const [all, symbol, double, single, word] = match;
      tokens.push(symbol ? { symbol } : { word: double ?? single ?? word ?? "" });
      at += all.length;
    }
    return tokens;
  }

  #either(): Selection {
    const parts = [this.#both()];
    while (this.#eat("||")) parts.push(this.#both());
    return parts.length === 1 ? parts[0]! : (row) => parts.some((part) => part(row));
  }

  #both(): Selection {
    const parts = [this.#one()];
    while (this.#eat("&&") || this.#eat(",")) parts.push(this.#one());
    return parts.length === 1 ? parts[0]! : (row) => parts.every((part) => part(row));
  }

  #one(): Selection {
    if (++this.#depth > MAX_DEPTH) throw this.#bad(`it is nested deeper than ${MAX_DEPTH}`);
    try {
      if (this.#eat("!")) {
        const inner = this.#one();
        return (row) => !inner(row);
      }
      if (!this.#eat("(")) return this.#comparison();
      const inner = this.#either();
      if (!this.#eat(")")) throw this.#bad(`${this.#shown()} stands where ) should be`);
      return inner;
    } finally {
      this.#depth--;
    }
  }

  #comparison(): Selection {
    const name = this.#word("a field");
    if (!this.#known(name)) throw this.#bad(`there is no field ${JSON.stringify(name)}`);
    const symbol = this.#tokens[this.#at++]?.symbol ?? "";
    const operator = OPERATORS[symbol];
    if (!operator) throw this.#bad(`${JSON.stringify(symbol)} stands where one of = != > >= < <= =~ !~ should be`);
    const wanted = this.#word("a value");
    const test = operator(wanted);
    return (row) => {
      const cell = row(name);
      return cell !== undefined && test(cell.kind, cell.value);
    };
  }

  #word(what: string): string {
    const token = this.#tokens[this.#at];
    if (token?.word === undefined) throw this.#bad(`${this.#shown()} stands where ${what} should be`);
    this.#at++;
    return token.word;
  }

  #eat(symbol: string): boolean {
    if (this.#tokens[this.#at]?.symbol !== symbol) return false;
    this.#at++;
    return true;
  }

  #shown(): string {
    const token = this.#tokens[this.#at];
    return token ? JSON.stringify(token.symbol ?? token.word) : "the end";
  }

  #bad(found: string): DiskError {
    return new DiskError("UNSUPPORTED", `Cannot read selection ${JSON.stringify(this.#text)}: ${found}`, {
      details: { usage: true },
    });
  }
}

type Test = (kind: FieldKind, value: FieldValue) => boolean;

const OPERATORS: Readonly<Record<string, (wanted: string) => Test>> = {
  "=": (wanted) => (kind, value) => equals(kind, value, wanted),
  "!=": (wanted) => (kind, value) => !equals(kind, value, wanted),
  ">": ordered((order) => order > 0),
  ">=": ordered((order) => order >= 0),
  "<": ordered((order) => order < 0),
  "<=": ordered((order) => order <= 0),
  "=~": (wanted) => matching(wanted, true),
  "!~": (wanted) => matching(wanted, false),
};

function equals(kind: FieldKind, value: FieldValue, wanted: string): boolean {
  if (isNumeric(kind)) return value !== null && Number(value) === numberOf(kind, wanted);
  if (Array.isArray(value)) return value.includes(wanted) || value.join(",") === wanted;
  return plain(value) === wanted;
}

function ordered(holds: (order: number) => boolean) {
  return (wanted: string): Test =>
    (kind, value) => {
      if (value === null) return false;
      if (isNumeric(kind)) return holds(Number(value) - numberOf(kind, wanted));
      const text = plain(value);
      return holds(text < wanted ? -1 : text > wanted ? 1 : 0);
    };
}

function matching(pattern: string, should: boolean): Test {
  let expression: RegExp;
  try {
    expression = new RegExp(pattern);
  } catch {
    throw new DiskError("UNSUPPORTED", `Cannot read selection: ${JSON.stringify(pattern)} is no regular expression`, {
      details: { usage: true },
    });
  }
  return (_kind, value) =>
    (Array.isArray(value) ? value.some((item) => expression.test(item)) : expression.test(plain(value))) === should;
}

/** Sizes without a unit are mebibytes, as in LVM2. */
function numberOf(kind: FieldKind, text: string): number {
  if (kind === "percent") return /^\d+(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (kind === "number") return /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
  return parseSize(/^[\d.]+$/.test(text) ? `${text}m` : text);
}

/** Hidden volumes are found by their names without brackets. */
function plain(value: FieldValue): string {
  return String(value ?? "").replace(/^\[(.*)\]$/, "$1");
}
