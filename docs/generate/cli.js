// docs/cli.md: what `xvd COMMAND --help` prints, for every verb of the registry.
import { programFor } from "../../dist/cli/main.js";
import { GROUPS, SECTIONS } from "../../dist/cli/registry.js";
import { anchor, page } from "./page.js";

const WIDTH = 100;

export async function cliPage() {
  const contents = Object.entries(SECTIONS).map(([section, verbs]) => {
    const links = Object.entries(verbs).map(
      ([name, { summary }]) => `- [\`xvd ${name}\`](#${anchor(`xvd ${name}`)}): ${summary}`,
    );
    return `**${section}**\n\n${links.join("\n")}`;
  });
  const verbs = [];
  for (const section of Object.values(SECTIONS))
    for (const name of Object.keys(section)) verbs.push(`## xvd ${name}\n\n\`\`\`text\n${await helpOf(name)}\n\`\`\``);
  return page("The command line", "`src/cli/verbs/`", [
    "Options, arguments and examples of every command, as `--help` prints them.",
    ...contents,
    ...verbs,
  ]);
}

/** Help with all that the verb adds to it, at a fixed width: the terminal of the moment must not show. */
async function helpOf(name) {
  const words = name.split(" ");
  const program = await programFor(words);
  const parent = words.length > 1 && Object.hasOwn(GROUPS, words[0]) ? program.commands[0] : program;
  const command = parent.commands[0];
  let text = "";
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => WIDTH,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text.trimEnd();
}
