/** Xen's own parsers (libxlutil of libxen-dev) judge ours: the same disks, values and errors for the same texts. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { readSettings, type XlValue } from "#src/xen/xl/config-syntax.js";
import { parseDiskSpec } from "#src/xen/xl/disk.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

const SOURCE = fileURLToPath(new URL("xlutil-judge.c", import.meta.url));
const NAMES = ["a", "b", "name", "disk", "memory"];

function haveLibxlutil(): boolean {
  if (!havePeer("cc")) return false;
  if (existsSync("/usr/include/libxlutil.h")) return true;
  if (process.env.XVD_REQUIRE_PEERS === "1") throw new Error("XVD_REQUIRE_PEERS=1, and libxen-dev is not installed");
  process.stderr.write("skipped: libxlutil.h not found; test/support/install-peers.sh installs libxen-dev\n");
  return false;
}

/** What xl made of one text: the first error, or the fields. */
type Verdict = { error: string } | Record<string, unknown>;

const hex = (text: string) => Buffer.from(text).toString("hex") || ".";
const text = (word: string): string | null =>
  word === "-" ? null : word === "." ? "" : Buffer.from(word, "hex").toString();
const printable = (message: string) =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: as our messages show them
  message.replace(/[\x00-\x1f\x7f]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);

describe.skipIf(!haveLibxlutil())("libxlutil", () => {
  let judge: (lines: readonly string[]) => Map<string, string>[];

  beforeAll(() => {
    const program = join(tempDir(), "judge");
    execFileSync("cc", ["-o", program, SOURCE, "-lxlutil", "-lxenlight"]);
    judge = (lines) =>
      execFileSync(program, { input: `${lines.join("\n")}\n`, encoding: "utf8", maxBuffer: 64 << 20 })
        .trimEnd()
        .split("\n")
        .map((line) => new Map(line.split(" ").map((field) => field.split("=", 2) as [string, string])));
  });

  describe("disk specifications", () => {
    function theirs(answer: Map<string, string>): Verdict {
      if (answer.get("err") !== "0") {
        const [first] = text(answer.get("report")!)!.split("\na.cfg: config parsing error");
        return { error: printable(first!.replace(/\n$/, "")) };
      }
      const get = (name: string) => text(answer.get(name)!);
      const choice = (name: string) => (get(name) === "unknown" ? null : get(name));
      const flag = (name: string) => ({ True: true, False: false })[get(name)!] ?? null;
      return {
        target: get("target") ?? "",
        vdev: get("vdev"),
        backend: get("backend") || null,
        script: get("script") || null,
        format: get("format"),
        backendType: choice("backendtype"),
        specification: choice("specification"),
        discard: flag("discard"),
        trusted: flag("trusted"),
        colo: flag("colo") ?? false,
        access: answer.get("readwrite") === "1" ? "rw" : "ro",
        cdrom: answer.get("cdrom") === "1",
        directIoSafe: answer.get("direct") === "1",
      };
    }

    function ours(specs: readonly string[]): Verdict {
      try {
        const { spec, formatGiven, grantUsage, ...disk } = parseDiskSpec(specs, "a.cfg");
        return disk;
      } catch (error) {
        return { error: (error as Error).message };
      }
    }

    /** Where we tell an error better: xl shows one character of an unknown key's value, and overlooks a wrong character at the very end. */
    const told = (error: string, xl: Verdict) =>
      (error.includes(": unknown parameter: ") && ("error" in xl || /=' in/.test(error))) ||
      /: bad disk syntax: near `.' in/u.test(error);

    function compare(cases: readonly (readonly string[])[]): void {
      const answers = judge(cases.map((specs) => `D ${specs.map(hex).join(" ")}`));
      for (const [i, specs] of cases.entries()) {
        const [mine, xl] = [ours(specs), theirs(answers[i]!)];
        if ("error" in mine && told(mine.error as string, xl)) continue;
        expect(mine, JSON.stringify(specs)).toEqual(xl);
      }
    }

    test("as written in manuals and in anger", () => {
      compare(
        [
          ...["/dev/vg/guest,,hda", "raw:/dev/vg/guest,hda,w", "vdev=hdc,access=r,devtype=cdrom", ",hdc:cdrom,r"],
          ...["vdev=xvdz,vdev=xvdy,target=/x", "vdev=xvdz,access=maybe,target=/x", "/x,,hda,,,", "/x=y,,hda", "foo:"],
          ...[
            "tap2:tapdisk:raw:/x,hda",
            "nbd:iscsi:/x,hda,w",
            "/x,raw,hda,rw,more",
            "",
            ",",
            "x",
            "cdrom",
            "vmdk:/x,hda",
          ],
          ...["vdev=hda,target=/x, y ,", "target=", "colo-port=0", "devtype=floppy,vdev=hda", " , , hda ,r", "vdev =x"],
        ].map((spec) => [spec]),
      );
    });

    const word = fc.constantFrom(
      ...[
        "vdev=",
        "target=",
        "format=",
        "access=",
        "backend=",
        "backendtype=",
        "script=",
        "specification=",
        "devtype=",
      ],
      ...[
        "raw",
        "qcow",
        "qcow2",
        "vhd",
        "qed",
        "empty",
        "xvda",
        "hdc",
        "cdrom",
        "disk",
        "xen",
        "virtio",
        "phy",
        "qdisk",
      ],
      ...["tap", "standalone", "r", "ro", "rw", "w", "discard", "no-discard", "direct-io-safe"], // (un)trusted: not in Debian's 4.17
      ...["colo", "no-colo", "colo-host=h", "colo-port=", "9", "0", "active-disk=", "hidden-disk=", "colo-export="],
      ...[":", "=", " ", "\t", "é", "Z", "-", "/x", "raw:", "qcow2:", "vhd:", "iscsi:", "nbd:", "enbd:", "drbd:"],
      ...[
        "tapdisk:",
        "tap:",
        "tap2:",
        "aio:",
        "ioemu:",
        "file:",
        "phy:",
        "foo:",
        "hdc:cdrom",
        "xvda:disk",
        "xvda:tape",
      ],
    );
    const comma = fc.constantFrom(",", ",", ",", ",", "", ", ");
    const spec = fc
      .array(fc.tuple(word, comma), { maxLength: 9 })
      .map((parts) => parts.map(([token, end]) => token + end).join(""));

    test("any words, joined anyhow", () => {
      fc.assert(
        fc.property(
          fc.array(fc.array(spec, { minLength: 1, maxLength: 3 }), { minLength: 150, maxLength: 300 }),
          compare,
        ),
        { numRuns: 25 },
      );
    });

    test("any characters", () => {
      const characters = fc.string({ unit: fc.constantFrom(..."xvdahrw:,,,==/ .-09Z\t"), maxLength: 24 });
      fc.assert(fc.property(fc.array(fc.tuple(characters), { minLength: 150, maxLength: 300 }), compare), {
        numRuns: 15,
      });
    });
  });

  describe("configurations", () => {
    const plain = (value: XlValue): string =>
      value.kind === "atom" ? hex(value.text) : `[${value.items.map(plain).join(",")}]`;

    /** The line; the first of a join, where xl tells the last; "end" where that of a line or the file is unexpected: there xl counts one line less. */
    function errorPlace(message: string): string {
      if (/joined by \+=|can't add \[list\]/.test(message)) return "joined";
      const [, line, end] = /^a\.cfg:(\d+): config parsing error near (<newline>|`#|the end|`?':)?/.exec(message)!;
      return end ? "end" : line!;
    }

    function ours(config: string): Verdict {
      try {
        const settings = readSettings(config, "a.cfg");
        const found = NAMES.filter((name) => settings.has(name));
        return Object.fromEntries(found.map((name) => [name, plain(settings.get(name)!.value)]));
      } catch (error) {
        return { error: errorPlace((error as Error).message) };
      }
    }

    function theirs(answer: Map<string, string>): Verdict {
      if (answer.get("err") === "0")
        return Object.fromEntries(NAMES.filter((name) => answer.has(name)).map((name) => [name, answer.get(name)]));
      return { error: errorPlace(text(answer.get("report")!)!) };
    }

    function compare(configs: readonly string[]): void {
      const answers = judge(configs.map((config) => `C ${hex(config)} ${NAMES.join(" ")}`));
      for (const [i, config] of configs.entries())
        expect(ours(config), JSON.stringify(config)).toEqual(theirs(answers[i]!));
    }

    test("as people write them", () => {
      compare([
        `name = "web1"\nmemory = 512 # MiB\ndisk = [ 'x,raw,xvda,w',\n # two\n "y",\n]\n`,
        'a=\'it\\\'s\';b="\\\\ \\"q\\" \\t\\n"',
        "a=0x1f;b=010",
        "a='x'\na+='y'",
        "a=['x']\na+=['y','z']\nb=[['c'],'d']",
        "a='x'\na+=['y']",
        "a=\nb=1",
        "a=1 b=2",
        "a=['x' 'y']",
        "",
      ]);
    });

    const word = fc.constantFrom(
      ...[
        "a",
        "b",
        "name",
        "disk",
        "=",
        "=",
        "=",
        "+=",
        "[",
        "]",
        ",",
        ";",
        "\n",
        "\n",
        " ",
        "\t",
        "# c\n",
        "1",
        "0x1f",
      ],
      ...[
        "'x'",
        '"y z"',
        "'\\''",
        '"\\n"',
        "['x']",
        "['x',\n'y',]",
        "a=1\n",
        "b='x'\n",
        "disk=['a','b']\n",
        "a+='y'\n",
      ],
      ...["b+=['z']\n", "é", "A", "$", "'", '"'],
    );

    test("any words, joined anyhow", () => {
      const config = fc.array(word, { maxLength: 14 }).map((words) => `${words.join("")}\n`);
      fc.assert(fc.property(fc.array(config, { minLength: 150, maxLength: 300 }), compare), { numRuns: 25 });
    });
  });
});
