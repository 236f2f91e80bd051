/** `xvd --help` and `xvd GROUP --help`: all verbs by name, none of them loaded. */
import type { Command } from "commander";
import { GROUPS, SECTIONS } from "./registry.js";

/** The program when `argv` names no verb: it prints help, or refuses an unknown word. */
export function helpProgram(program: Command, first: string, group: boolean): Command {
  program.description(
    "Disk images: create, partition, clone, attach as /dev/xvdX, back up and restore. No root, no kernel modules.",
  );
  if (group) {
    const command = program.command(first).description(GROUPS[first]!).exitOverride();
    const verbs = verbLines((name) => name.startsWith(`${first} `));
    command
      .addHelpText("after", `\nCommands:\n${verbs}`)
      .argument("<command>")
      .action((word: string) => unknown(command, `${first} ${word}`));
    return program;
  }
  program.usage("COMMAND ...").addHelpText("after", sections()).argument("[command]");
  program.action((word?: string) => (word === undefined ? program.outputHelp() : unknown(program, word)));
  return program;
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
  return `${parts.join("\n")}\n\nA DISK is guest.dsk, guest.dsk#p2 (a partition), dom:web1/xvda (an attached device) or an nbd:// URI.\n'xvd COMMAND --help' tells more.`;
}

function verbLines(wanted: (name: string) => boolean): string {
  return Object.values(SECTIONS)
    .flatMap((section) => Object.entries(section))
    .filter(([name]) => wanted(name))
    .map(([name, entry]) => `  ${name.padEnd(16)} ${entry.summary}`)
    .join("\n");
}
