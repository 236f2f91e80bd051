/** The entries of one section, taken out key by key: what nobody asked for is left over. */
import { DiskError } from "../../errors.js";
import type { ConfigValue, Entry, Section } from "./tree.js";

/** Longer sections (a group with all of its volumes) are looked up by a map; most have a handful of entries. */
const FEW = 24;

export class Fields {
  readonly #where: string;
  /** In their order; null: taken out. */
  readonly #entries: (Entry | null)[];
  readonly #index: ReadonlyMap<string, number> | null;

  /** `where` names the section in errors. A key that stands twice is `CORRUPT`. */
  constructor(entries: readonly Entry[], where: string) {
    this.#where = where;
    this.#entries = [...entries];
    this.#index = entries.length > FEW ? new Map(entries.map(({ key }, i) => [key, i])) : null;
    const isTwice = this.#index
      ? this.#index.size !== entries.length
      : entries.some(({ key }, i) => this.#find(key) !== i);
    if (isTwice) throw this.bad("a key stands in it twice, allowed once");
  }

  /** -1 when it is not there, or taken. */
  #find(key: string): number {
    if (this.#index) {
      const i = this.#index.get(key);
      return i === undefined || this.#entries[i] === null ? -1 : i;
    }
    const entries = this.#entries;
    for (let i = 0; i < entries.length; i++) if (entries[i]?.key === key) return i;
    return -1;
  }

  /** A whole number 0..max. Without a fallback it must be there. */
  count(key: string, max: number, fallback?: number): number {
    const value = this.#assigned(key);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max)
      throw this.bad(`${key} is ${show(value)}, allowed 0..${max}`);
    return value;
  }

  text(key: string, fallback?: string): string {
    const value = this.#assigned(key);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value !== "string") throw this.bad(`${key} is ${show(value)}, allowed a string`);
    return value;
  }

  list(key: string, required = false): string[] {
    const value = this.#assigned(key) ?? (required ? undefined : []);
    const values = typeof value === "string" ? [value] : value;
    if (!Array.isArray(values) || !values.every((item) => typeof item === "string"))
      throw this.bad(`${key} is ${show(value)}, allowed a list of strings`);
    return values;
  }

  /** A list of anything; undefined when it is not there. */
  values(key: string): readonly unknown[] | undefined {
    const value = this.#assigned(key);
    if (value !== undefined && !Array.isArray(value)) throw this.bad(`${key} is ${show(value)}, allowed a list`);
    return value as readonly unknown[] | undefined;
  }

  section(key: string): readonly Entry[] | undefined {
    const i = this.#find(key);
    if (i < 0) return undefined;
    const entry = this.#entries[i]!;
    if (entry.kind !== "section") throw this.bad(`${key} is a value, allowed a section`);
    this.#entries[i] = null;
    return entry.entries;
  }

  /** The sections whose keys begin so, in their order. */
  sections(prefix: string): Section[] {
    const found: Section[] = [];
    for (const [i, entry] of this.#entries.entries())
      if (entry?.kind === "section" && entry.key.startsWith(prefix)) {
        found.push(entry);
        this.#entries[i] = null;
      }
    return found;
  }

  has(key: string): boolean {
    return this.#find(key) >= 0;
  }

  /** What was not taken, in its order. */
  rest(): Entry[] {
    return this.#entries.filter((entry) => entry !== null);
  }

  bad(found: string): DiskError {
    return new DiskError("CORRUPT", `Cannot read ${this.#where}: ${found}`);
  }

  #assigned(key: string): ConfigValue | undefined {
    const i = this.#find(key);
    if (i < 0) return undefined;
    const entry = this.#entries[i]!;
    if (entry.kind !== "assign") throw this.bad(`${key} is a section, allowed a value`);
    this.#entries[i] = null;
    return entry.value;
  }
}

function show(value: unknown): string {
  if (value === undefined) return "missing";
  const text = typeof value === "bigint" ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
