/** `xvd lvconvert`: a volume becomes one of another kind. Each kind of conversion is a file of its own, loaded when it is asked for. */
import type { Command } from "commander";
import { addChanging, type CommonFlags, countForce, usage } from "./options.js";

export interface LvconvertFlags extends CommonFlags {
  readonly merge?: boolean;
  readonly mergesnapshot?: boolean;
  readonly background?: boolean;
}

/** By the options that ask for it; the first that fits is taken. */
const CONVERSIONS: readonly {
  readonly asked: (flags: LvconvertFlags) => boolean;
  readonly load: () => Promise<(names: readonly string[], flags: LvconvertFlags, force: number) => Promise<void>>;
}[] = [
  {
    asked: ({ merge, mergesnapshot }) => (merge ?? false) || (mergesnapshot ?? false),
    load: async () => (await import("./lvconvert-merge.js")).mergeVolumes,
  },
];

export default function define(command: Command): void {
  const force = countForce(command);
  addChanging(command.argument("<names...>", "VG/LV"))
    .option("--merge", "a snapshot goes back into its origin")
    .option("--mergesnapshot", "the same")
    .option("-b, --background", "only begin; the same command again goes on")
    .addHelpText("after", "\nExample:\n  xvd lvconvert --merge vg0/before")
    .action(async (names: string[], flags: LvconvertFlags) => {
      const conversion = CONVERSIONS.find(({ asked }) => asked(flags));
      if (!conversion) throw usage("Please say what to convert to: --merge");
      await (await conversion.load())(names, flags, force());
    });
}
