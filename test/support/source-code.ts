/** TypeScript source as its imports and its bare code: enough to judge who uses what, without a compiler. */

export interface Import {
  /** What is named: `./device.js`, `node:fs`, `koffi`. */
  readonly specifier: string;
  readonly line: number;
  /** `static` covers `import` and `export … from`; `url` is `new URL("./x.js", import.meta.url)`, a worker's entry. */
  readonly kind: "static" | "dynamic" | "url";
  /** `import type` and `export type`: nothing is left of it when the program runs. */
  readonly typeOnly: boolean;
}

/** A place where a global name is used. */
export interface Use {
  readonly name: string;
  readonly line: number;
}

const IMPORTS: readonly [Import["kind"], RegExp][] = [
  ["static", /(?:^|[;}\s])(?:import|export)\s(?:[^;"'`()=]*?\sfrom\s*)?(["'])([^"'\n]+)\1/g],
  ["dynamic", /\bimport\s*\(\s*(["'`])([^"'`\n]+)\1\s*[),]/g],
  ["url", /\bnew\s+URL\s*\(\s*(["'`])(\.[^"'`\n]+\.js)\1\s*,\s*import\.meta\.url/g],
];

export function importsOf(source: string): Import[] {
  const text = blank(source, { strings: false });
  const code = blank(source, { strings: true });
  return IMPORTS.flatMap(([kind, pattern]) =>
    [...text.matchAll(pattern)]
      .filter((match) => /import|export|new/.test(code.slice(match.index, match.index + match[0].length))) // else it is a string that quotes one
      .map((match) => ({
        kind,
        specifier: match[2]!,
        line: lineAt(text, match.index + match[0].lastIndexOf(match[2]!)),
        typeOnly: /^\W?(?:import|export)\s+type\s/.test(match[0]),
      })),
  );
}

/** Members of `name` that are used (`process.env`), and bare mentions of it as a value; declarations and keys are not uses. */
export function usesOf(source: string, name: string): Use[] {
  const text = blank(source, { strings: true });
  const pattern = new RegExp(`(?:^|[^.\\w$]|\\bglobalThis\\.)${name}(?:\\s*\\??\\.\\s*(\\w+)|\\s*\\[)`, "gm");
  return [...text.matchAll(pattern)].map((match) => {
    const at = match.index + match[0].indexOf(name);
    return { name: match[1] ? `${name}.${match[1]}` : name, line: lineAt(text, at) };
  });
}

/** The comment that opens the file, or "". */
export function headComment(source: string): string {
  return /^\s*(?:\/\*[\s\S]*?\*\/|(?:\/\/.*\n?)+)/.exec(source)?.[0] ?? "";
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

const REGEX_MAY_FOLLOW = /(?:^|[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of))\s*$/;

/** The source with comments (and, when asked, the contents of strings) replaced by blanks; every line keeps its number. */
export function blank(source: string, what: { strings: boolean }): string {
  const out: string[] = [];
  const templates: number[] = []; // brace depth at which each open `${` ends
  let depth = 0;
  let at = 0;
  const copy = (end: number, hide: boolean) => {
    const part = source.slice(at, end);
    out.push(hide ? part.replace(/[^\n]/g, " ") : part);
    at = end;
  };
  const template = () => {
    const end = templateEnd(source, at);
    if (source[end - 1] === "{") templates.push(depth++);
    copy(end, what.strings);
  };
  while (at < source.length) {
    const char = source[at]!;
    const two = source.slice(at, at + 2);
    if (two === "//") copy(indexAfter(source, "\n", at + 2, false), true);
    else if (two === "/*") copy(indexAfter(source, "*/", at + 2, true), true);
    else if (char === '"' || char === "'") copy(quotedEnd(source, at), what.strings);
    else if (char === "/" && REGEX_MAY_FOLLOW.test(source.slice(Math.max(0, at - 40), at)))
      copy(regexEnd(source, at), what.strings);
    else if (char === "`") {
      copy(at + 1, what.strings);
      template();
    } else if (char === "}" && templates.at(-1) === depth - 1) {
      depth = templates.pop()!;
      copy(at + 1, what.strings);
      template();
    } else {
      if (char === "{") depth++;
      if (char === "}") depth--;
      copy(at + 1, false);
    }
  }
  return out.join("");
}

function indexAfter(source: string, mark: string, from: number, including: boolean): number {
  const found = source.indexOf(mark, from);
  return found < 0 ? source.length : found + (including ? mark.length : 0);
}

function quotedEnd(source: string, start: number): number {
  for (let at = start + 1; at < source.length; at++) {
    if (source[at] === "\\") at++;
    else if (source[at] === source[start] || source[at] === "\n") return at + 1;
  }
  return source.length;
}

function regexEnd(source: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < source.length && source[at] !== "\n"; at++) {
    if (source[at] === "\\") at++;
    else if (source[at] === "[") inClass = true;
    else if (source[at] === "]") inClass = false;
    else if (source[at] === "/" && !inClass) return at + 1;
  }
  return start + 1; // a division after all
}

/** From within a template to just after its closing backtick or its next `${`. */
function templateEnd(source: string, start: number): number {
  for (let at = start; at < source.length; at++) {
    if (source[at] === "\\") at++;
    else if (source[at] === "`") return at + 1;
    else if (source[at] === "$" && source[at + 1] === "{") return at + 2;
  }
  return source.length;
}
