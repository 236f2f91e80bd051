/** From the words of the command line to one verb's action, and from its outcome to an exit code. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";

/** Runs the command line and sets `process.exitCode`. Never throws. */
export async function main(given: readonly string[]): Promise<void> {
  const argv = given[0] === "help" ? [...given.slice(1), "--help"] : given;
  process.stdout.on("error", (error) => endOutput(error, argv));
  if (argv.length === 1 && asksVersion(argv[0]!)) {
    process.stdout.write(`${packageVersion()}\n`); // before anything is loaded: scripts ask this often
    return;
  }
  try {
    const program = await programFor(argv);
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    process.exitCode = (await import("./report.js")).reportError(error, argv);
  }
}

function asksVersion(word: string): boolean {
  return word === "--version" || word === "-V";
}

/** Whoever read our output (`xvd map … | head`) has seen enough; any other failure of stdout is one of the command. */
async function endOutput(error: NodeJS.ErrnoException, argv: readonly string[]): Promise<never> {
  if (error.code === "EPIPE") process.exit(141); // as a command that SIGPIPE ends
  const [{ fromErrno }, { reportError }] = await Promise.all([import("../errors.js"), import("./report.js")]);
  process.exit(reportError(fromErrno("write the result", error), argv));
}

/** The commander program with the one verb that `argv` names, or with all verbs' names when it asks for help. */
export async function programFor(argv: readonly string[]): Promise<Command> {
  const [{ Command }, { findVerb, GROUPS }] = await Promise.all([import("commander"), import("./registry.js")]);
  const program = new Command("xvd").exitOverride();
  program.configureOutput({ writeErr: () => {} }); // wrong usage is reported in our own form, once
  const words = argv.filter((word) => !word.startsWith("-"));
  const [first = "", second = ""] = words;
  const group = Object.hasOwn(GROUPS, first);
  const name = group ? `${first} ${second}` : first;
  const entry = findVerb(name);
  if (!entry) program.version(packageVersion(), "-V, --version");
  if (!entry) return (await import("./help.js")).helpProgram(program, words, group);

  const parent = group ? program.command(first).description(GROUPS[first]!).exitOverride() : program;
  const command = parent
    .command(group ? second : first)
    .description(entry.summary)
    .exitOverride();
  command.copyInheritedSettings(parent);
  command.option("--json", "print one JSON document on stdout").option("--verbose", "print the causes of an error");
  (await entry.load()).default(command);
  const takesV = command.options.some(({ short }) => short === "-V"); // lvcreate's is LVM2's --virtualsize
  if (argv.some(asksVersion)) program.version(packageVersion(), takesV ? "--version" : "-V, --version");
  return program;
}

export function packageVersion(): string {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
}
