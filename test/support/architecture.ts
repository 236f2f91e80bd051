/** The rules of `docs/architecture.md` that a machine can check: who may import whom, who may touch the outer world, how long a file may be. */
import { posix } from "node:path";
import { headComment, type Import, importsOf, usesOf } from "./source-code.js";

/** Files by path below `src/`, with their text. */
export type Sources = ReadonlyMap<string, string>;

/** `block/file.ts:12: …` */
export type Breach = string;

// Who stands above imports from below. Folders in one row do not import each other.
const ROWS: readonly (readonly string[])[] = [
  ["errors"],
  ["bytes"],
  ["os"],
  ["block"],
  ["formats", "partitions", "filesystems", "lvm", "xen", "nbd", "kernel", "backup", "lab"],
  ["stack"],
  ["dom0"],
  ["cli", "index"],
];

/** A module outside the tree, and the only folders that may import it. */
const GATED: readonly { modules: RegExp; folders: readonly string[]; why: string }[] = [
  {
    modules: /^(node:)?fs(\/promises)?$|^(fs-extra|graceful-fs|tmp)$/,
    folders: ["os/"],
    why: "files are opened in os/",
  },
  { modules: /^koffi$|^(node:)?ffi$/, folders: ["os/"], why: "native calls are made in os/" },
  {
    modules: /^(node:)?(net|tls|dgram)$/,
    folders: ["nbd/", "xen/platform/"],
    why: "sockets are opened in nbd/ and xen/platform/",
  },
  { modules: /^(node:)?https?$/, folders: ["dom0/"], why: "the control API is in dom0/" },
  { modules: /^(node:)?(process|console|readline)$/, folders: ["cli/"], why: "the terminal belongs to cli/" },
];

/** One file that may do what its folder may not. Each needs its reason, and is refused when it is no longer needed. */
const EXCEPTIONS: readonly { file: string; uses: string; why: string }[] = [
  { file: "os/this-process.ts", uses: "node:process", why: "own pid and PATH are the operating system's" },
  { file: "cli/main.ts", uses: "node:fs", why: "--version reads package.json before anything else is loaded" },
];

const MAX_LINES = 400;
/** In a file's head comment, followed by the reason: allows more than 400 lines. */
export const LENGTH_MARKER = "Long because";

// The entry file of a process or thread is the edge of the program, as cli/ is.
const ENTRY_FILE = /^dom0\/(?:.*\/)?(?:[\w-]+-)?(?:worker|main|entry)\.ts$/;

/** Everything that breaks the rules, with file and line. */
export function breaches(sources: Sources): Breach[] {
  const used = new Set<string>();
  const found = [...sources].flatMap(([file, text]) => [
    ...importsOf(text).flatMap((one) => importBreach(file, one, sources, used)),
    ...globalBreaches(file, text),
    ...lengthBreach(file, text),
  ]);
  const idle = EXCEPTIONS.filter(({ file, uses }) => sources.has(file) && !used.has(`${file} ${uses}`));
  return [
    ...found,
    ...idle.map(({ file, uses }) => `${file}:1: its exception for ${uses} is no longer needed`),
    ...cycles(sources),
  ];
}

function importBreach(file: string, { specifier, line, kind }: Import, sources: Sources, used: Set<string>): Breach[] {
  const where = `${file}:${line}`;
  if (!specifier.startsWith(".")) return outsideBreach(file, where, specifier, used);
  const target = resolveImport(file, specifier);
  if (kind === "url" && !target.startsWith("..") && !sources.has(target))
    return [`${where}: starts ${target}, there is no such file`];
  if (target.startsWith("..")) return kind === "url" ? [] : [`${where}: imports ${specifier}, outside of src/`];
  const [from, to] = [folderOf(file), folderOf(target)];
  if (from === to) return [];
  const [fromRow, toRow] = [rowOf(from), rowOf(to)];
  if (fromRow < 0 || toRow < 0) return [`${where}: ${fromRow < 0 ? from : to} has no place in the import order`];
  if (toRow < fromRow) return [];
  return [
    `${where}: ${from} imports ${to} (${target}); ${toRow === fromRow ? "neighbours do not import each other" : "imports go down only"}`,
  ];
}

function outsideBreach(file: string, where: string, specifier: string, used: Set<string>): Breach[] {
  const gate = GATED.find(({ modules }) => modules.test(specifier));
  if (!gate || gate.folders.some((folder) => file.startsWith(folder))) return [];
  const exception = EXCEPTIONS.find((one) => one.file === file && one.uses === specifier);
  if (exception) {
    used.add(`${file} ${specifier}`);
    return [];
  }
  return [`${where}: imports ${specifier}; ${gate.why}`];
}

function globalBreaches(file: string, text: string): Breach[] {
  if (file.startsWith("cli/") || ENTRY_FILE.test(file)) return [];
  return ["process", "console"]
    .flatMap((name) => usesOf(text, name))
    .map(({ name, line }) => `${file}:${line}: uses ${name}; environment and output are arguments outside of cli/`);
}

function lengthBreach(file: string, text: string): Breach[] {
  const lines = text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
  if (lines <= MAX_LINES || headComment(text).includes(LENGTH_MARKER)) return [];
  return [
    `${file}:${lines}: has ${lines} lines, at most ${MAX_LINES} unless its head comment says '${LENGTH_MARKER} …'`,
  ];
}

/** Each cycle of imports that run once, told from its alphabetically first file. Types may refer to each other. */
function cycles(sources: Sources): Breach[] {
  const edges = new Map([...sources].map(([file, text]) => [file, neighbours(file, text, sources)]));
  const state = new Map<string, "open" | "done">();
  const found = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      found.add(rotate(path.slice(path.indexOf(file))).join(" -> "));
      return;
    }
    state.set(file, "open");
    for (const next of edges.get(file)!) visit(next, [...path, file]);
    state.set(file, "done");
  };
  for (const file of edges.keys()) visit(file, []);
  return [...found].map((cycle) => `${cycle.split(" ")[0]}:1: imports itself by way of ${cycle}`);
}

function neighbours(file: string, text: string, sources: Sources): string[] {
  const inside = importsOf(text).filter(
    ({ specifier, kind, typeOnly }) => specifier.startsWith(".") && kind !== "url" && !typeOnly,
  );
  return [...new Set(inside.map(({ specifier }) => resolveImport(file, specifier)))].filter((target) =>
    sources.has(target),
  );
}

function rotate(cycle: readonly string[]): string[] {
  const start = cycle.indexOf([...cycle].sort()[0]!);
  return [...cycle.slice(start), ...cycle.slice(0, start)];
}

function resolveImport(file: string, specifier: string): string {
  return posix.join(posix.dirname(file), specifier).replace(/\.js$/, ".ts");
}

/** `block` for `block/file.ts`, `errors` for `errors.ts`. */
function folderOf(file: string): string {
  return file.split("/")[0]!.replace(/\.ts$/, "");
}

function rowOf(folder: string): number {
  return ROWS.findIndex((row) => row.includes(folder));
}
