/** `xvd lvconvert`: a volume becomes one of another kind. Each kind of conversion is a file of its own, loaded when it is asked for. */
import { type Command, Option } from "commander";
import type { LvconvertFlags } from "./lvconvert-request.js";
import { addChanging, countForce, parseCount, parseMebibytes, usage } from "./options.js";

/** By the options that ask for it; the first that fits is taken. */
const CONVERSIONS: readonly {
  readonly asked: (flags: LvconvertFlags) => boolean;
  readonly load: () => Promise<(names: readonly string[], flags: LvconvertFlags, force: number) => Promise<void>>;
}[] = [
  {
    asked: ({ merge, mergesnapshot }) => (merge ?? false) || (mergesnapshot ?? false),
    load: async () => (await import("./lvconvert-merge.js")).mergeVolumes,
  },
  {
    asked: ({ mirrors, repair, splitmirrors, type = "" }) =>
      mirrors !== undefined || repair === true || splitmirrors !== undefined || /^(linear|mirror|raid1)$/.test(type),
    load: async () => (await import("./lvconvert-raid.js")).convertLegs,
  },
];

export default function define(command: Command): void {
  const force = countForce(command);
  addChanging(command.argument("<names...>", "VG/LV; for new legs also disks that may be used"))
    .option("--merge", "a snapshot goes back into its origin")
    .option("--mergesnapshot", "the same")
    .option("-m, --mirrors <n>", "copies beside the first; also +N and -N", parseMirrors)
    .option("--type <type>", "linear, raid1 or mirror")
    .option("--repair", "put new legs in the place of failed and missing ones")
    .option("--splitmirrors <n>", "make the last leg of a raid1 a volume of its own", parseCount)
    .option("-n, --name <name>", "of what is split off")
    .option("-R, --regionsize <size>", "what is made alike at once after a cut (default: 2M)", parseMebibytes)
    .addOption(new Option("--mirrorlog <where>", "of a mirror: on a volume, or nowhere").choices(["disk", "core"]))
    .option("-b, --background", "only begin: the same --merge again, or the next use of new legs, goes on")
    .addHelpText(
      "after",
      "\nExamples:\n  xvd lvconvert --merge vg0/before\n  xvd lvconvert -m 1 vg0/root\n  xvd lvconvert --repair vg0/root",
    )
    .action(async (names: string[], flags: LvconvertFlags) => {
      const conversion = CONVERSIONS.find(({ asked }) => asked(flags));
      if (!conversion) throw usage("Please say what to convert to: --merge, -m, --type, --repair or --splitmirrors");
      await (await conversion.load())(names, flags, force());
    });
}

function parseMirrors(text: string): NonNullable<LvconvertFlags["mirrors"]> {
  const [, sign = "", digits] = /^([+-]?)(\d{1,3})$/.exec(text.trim()) ?? [];
  if (digits === undefined) throw usage(`Cannot read the number of mirrors ${JSON.stringify(text)}: allowed N, +N, -N`);
  return { sign: sign as "" | "+" | "-", count: Number(digits) };
}
