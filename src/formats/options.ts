/**
 * Options of a format, the keys of `-o`: named as qemu-img names them. A format lists them once; reading what the user
 * gave, refusing the rest, help and docs all come from the list.
 */
import { formatSize, parseSize } from "../bytes/size.js";
import { DiskError } from "../errors.js";

export interface FormatOption<T> {
  /** `cluster_size`. */
  readonly key: string;
  /** Half a sentence for help: `bytes allocated together`. */
  readonly doc: string;
  /** For help and messages: `512..2M, a power of two`. */
  readonly allowed: string;
  /** What holds when nothing is given. */
  readonly fallback: T;
  /** As the user would write the fallback; null when there is nothing to write. */
  readonly shownFallback: string | null;
  /** Undefined when the text is not allowed. */
  parse(text: string): T | undefined;
}

/** `on` or `off`. */
export function switchOption(key: string, doc: string, fallback = false): FormatOption<boolean> {
  return {
    key,
    doc,
    allowed: "on off",
    fallback,
    shownFallback: fallback ? "on" : "off",
    parse: (text) =>
      ["on", "yes", "true", "y"].includes(text) ? true : ["off", "no", "false", "n"].includes(text) ? false : undefined,
  };
}

/** One of several words. */
export function choiceOption<const T extends string>(
  key: string,
  doc: string,
  choices: readonly T[],
  fallback: NoInfer<T>,
): FormatOption<T> {
  const parse = (text: string) => choices.find((choice) => choice === text);
  return { key, doc, allowed: choices.join(" "), fallback, shownFallback: fallback, parse };
}

/** A power of two between two sizes in bytes. */
export function powerOfTwoOption(
  key: string,
  doc: string,
  { min, max, fallback }: { min: number; max: number; fallback: number },
): FormatOption<number> {
  return {
    key,
    doc,
    allowed: `a power of two, ${formatSize(min)} to ${formatSize(max)}`,
    fallback,
    shownFallback: formatSize(fallback),
    parse(text) {
      const size = sizeOrUndefined(text);
      return size !== undefined && size >= min && size <= max && Number.isInteger(Math.log2(size)) ? size : undefined;
    },
  };
}

/** One of several numbers. */
export function numberOption(
  key: string,
  doc: string,
  choices: readonly number[],
  fallback: number,
): FormatOption<number> {
  const parse = (text: string) => choices.find((choice) => String(choice) === text);
  return { key, doc, allowed: choices.join(" "), fallback, shownFallback: String(fallback), parse };
}

/** Any text that is not empty: a name. */
export function textOption(key: string, doc: string, allowed: string): FormatOption<string | null> {
  return { key, doc, allowed, fallback: null, shownFallback: null, parse: (text) => (text === "" ? undefined : text) };
}

/** What was given, by option. */
export class OptionValues {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values;
  }

  get<T>(option: FormatOption<T>): T {
    return this.#values.has(option.key) ? (this.#values.get(option.key) as T) : option.fallback;
  }

  /** Whether the user gave it. */
  has(option: FormatOption<unknown>): boolean {
    return this.#values.has(option.key);
  }
}

export const NO_OPTIONS = new OptionValues(new Map());

/** Reads texts by key. Throws `UNSUPPORTED`, as wrong usage, for a key or a value that `options` do not have. */
export function parseOptions(
  owner: string,
  options: readonly FormatOption<unknown>[],
  given: ReadonlyMap<string, string>,
): OptionValues {
  const values = new Map<string, unknown>();
  for (const [key, text] of given) {
    const option = options.find((one) => one.key === key);
    if (!option) {
      const known = options.length === 0 ? "it has none" : `allowed ${options.map((one) => one.key).join(" ")}`;
      throw refused(owner, `option ${JSON.stringify(key)} is not known, ${known}`);
    }
    const value = option.parse(text);
    if (value === undefined) throw refused(owner, `${key} is ${JSON.stringify(text)}, allowed ${option.allowed}`);
    values.set(key, value);
  }
  return new OptionValues(values);
}

function refused(owner: string, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot use options of ${owner}: ${why}`, { details: { usage: true } });
}

function sizeOrUndefined(text: string): number | undefined {
  try {
    return parseSize(text);
  } catch {
    return undefined;
  }
}
