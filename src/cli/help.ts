/** `xvd --help` and `xvd GROUP --help`: all verbs by name, none of them loaded. */
import type { Command } from "commander";
import { GROUPS, SECTIONS } from "./registry.js";

/** The program when `words` name no verb: it prints help, or throws for an unknown word, also beside --help. */
export function helpProgram(program: Command, words: readonly string[], group: boolean): Command {
  const [first = "", second] = words;
  program.description(
    "Disk images: create, partition, fill, resize, clone, compare, attach as /dev/xvdX. No root, no kernel modules.",
  );
  if (group) {
    const command = program.command(first).description(GROUPS[first]!).exitOverride();
    if (second !== undefined) unknown(command, `${first} ${second}`);
    const verbs = verbLines((name) => name.startsWith(`${first} `));
    command.addHelpText("after", `\nCommands:\n${verbs}`).argument("<command>");
    return program;
  }
  if (first !== "") unknown(program, first);
  program.usage("COMMAND ...").addHelpText("after", sections());
  return program.action(() => program.outputHelp());
}

function unknown(command: Command, name: string): never {
  return command.error(`error: there is no command '${name}'${nearest(name)}`, {
    exitCode: 2,
    code: "commander.unknownCommand",
  });
}

function nearest(name: string): string {
  const names = Object.values(SECTIONS).flatMap((section) => Object.keys(section));
  const found = names.find((known) => known.startsWith(name) || name.startsWith(known) || known.endsWith(` ${name}`));
  return found ? `, did you mean '${found}'` : "";
}

function sections(): string {
  const parts = Object.keys(SECTIONS).map(
    (title) => `\n${title}:\n${verbLines((name) => Object.hasOwn(SECTIONS[title]!, name))}`,
  );
  return `${parts.join("\n")}\n\nA DISK is guest.dsk, guest.dsk#p2 (a partition), guest.dsk#vg0/root or lvm:vg0/root (a volume), dom:web1/xvda (an attached device) or an nbd:// URI.\n'xvd COMMAND --help' tells more.`;
}

function verbLines(wanted: (name: string) => boolean): string {
  return Object.values(SECTIONS)
    .flatMap((section) => Object.entries(section))
    .filter(([name]) => wanted(name))
    .map(([name, entry]) => `  ${name.padEnd(16)} ${entry.summary}`)
    .join("\n");
}
