/** What the verbs of `xvd snapshot` have in common. */
import type { Command } from "commander";

export interface SnapshotFlags {
  readonly format?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function addSnapshotOptions(command: Command): Command {
  return command
    .argument("<file>", "the image")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--dry-run", "tell what would be done");
}
