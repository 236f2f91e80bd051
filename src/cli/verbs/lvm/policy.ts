/** `--alloc`. */
import { type Command, Option } from "commander";

export function addPolicy(command: Command): Command {
  return command.addOption(
    new Option("--alloc <policy>", "where new extents may lie").choices([
      "contiguous",
      "cling",
      "normal",
      "anywhere",
      "inherit",
    ]),
  );
}
