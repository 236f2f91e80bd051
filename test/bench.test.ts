/** The bench frame's own arithmetic: a wrong ratio would be published. Figures themselves are not tested. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writeDataFile } from "../bench/lib/data-file.js";
import { median } from "../bench/lib/median.js";
import { figuresOf, fioNbd, NBD_PEERS, startNbdPeer } from "../bench/lib/nbd-peers.js";
import { completeRow, figure, isMet, targetText } from "../bench/lib/rows.js";
import { printTable } from "../bench/lib/table.js";
import { peakMemoryInTurns, timeInTurns } from "../bench/lib/timing.js";
import { havePeer } from "./support/peers.js";
import { tempDir } from "./support/temp-dir.js";

const row = { name: "copy", ours: 3, peer: 2, peerName: "cp", unit: "s", better: "lower", target: 2 } as const;

describe("rows", () => {
  test.each([
    ["lower, within the ratio", row, true],
    ["lower, at the ratio", { ...row, ours: 4 }, true],
    ["lower, beyond it", { ...row, ours: 4.1 }, false],
    ["lower, beyond it but within the slack", { ...row, ours: 4.1, slack: 3 }, true],
    ["higher, enough", { ...row, better: "higher", target: 1.5 }, true],
    ["higher, too little", { ...row, better: "higher", target: 1.6 }, false],
    ["no peer, the target bounds ours", { ...row, peer: null, better: "higher", target: 3 }, true],
    ["no peer, too little", { ...row, peer: null, better: "higher", target: 4 }, false],
    ["no target", { ...row, target: null }, null],
    ["ours not measured", { ...row, ours: null }, null],
  ] as const)("%s", (_, given, expected) => expect(isMet(completeRow(given))).toBe(expected));

  test("a figure that is none is refused", () => {
    expect(() => completeRow({ ...row, ours: Number.NaN })).toThrow("ours is NaN");
    expect(() => completeRow({ ...row, better: "faster" })).toThrow("faster");
  });

  test("figures are printed with three digits", () => {
    expect([0.012345, 1.5, 44.21, 999.6, 123456, 0, null].map(figure)).toEqual([
      "0.0123",
      "1.5",
      "44.2",
      "1\u00a0000",
      "123\u00a0000",
      "0",
      "-",
    ]);
    expect(targetText({ ...row, slack: 10 })).toBe("at most 2x or +10 s");
    expect(targetText({ ...row, peer: null, peerName: "", better: "higher", target: 200000, unit: "IOPS" })).toBe(
      "at least 200\u00a0000 IOPS",
    );
  });

  test("the table is aligned and names what was missed", () => {
    const lines = printTable("clone", [completeRow(row), completeRow({ ...row, name: "a longer name", ours: 9 })])
      .split("\n")
      .slice(2);
    expect(new Set(lines.slice(1).map((line: string) => line.indexOf("cp"))).size).toBe(1);
    expect(lines.at(-1)).toMatch(/4\.5x.*MISSED$/);
  });
});

test("the median of odd and even counts", () => {
  expect(median([5, 1, 9])).toBe(5);
  expect(median([4, 1, 2, 10])).toBe(3);
  expect(() => median([])).toThrow(RangeError);
});

describe("processes", () => {
  const node = (script: string) => ({ argv: [process.execPath, "-e", script] });

  test("run in turns, each as often as asked, after one untimed run", () => {
    const order: string[] = [];
    const step = (name: string) => ({ argv: ["true"], before: () => order.push(name) });
    const medians = timeInTurns({ a: step("a"), b: step("b") }, { rounds: 2, batch: 2 });
    expect(order.join("")).toBe(`ab${"abab".repeat(2)}`);
    expect(Object.keys(medians)).toEqual(["a", "b"]);
  });

  test("a failure is told, with its output", () => {
    expect(() => timeInTurns({ a: node("console.error('why'); process.exit(3)") })).toThrow(/ended with 3: why/);
  });

  test("peak memory tells a large program from a small one", () => {
    const mib = peakMemoryInTurns({ small: node("0"), large: node("Buffer.alloc(200 * 2 ** 20, 1)") }, { rounds: 1 });
    expect(mib.large! - mib.small!).toBeGreaterThan(150);
  });
});

test("data files are the same every time and hold no zeros to skip", () => {
  const dir = tempDir();
  const [a, b] = ["a", "b"].map((name) => join(dir, name)) as [string, string];
  writeDataFile(a, 5 * 2 ** 20);
  writeDataFile(b, 5 * 2 ** 20);
  const [first, second] = [readFileSync(a), readFileSync(b)];
  expect(first.length).toBe(5 * 2 ** 20);
  expect(first.equals(second)).toBe(true);
  expect(first.subarray(0, 2 ** 20).equals(first.subarray(2 ** 20, 2 ** 21))).toBe(false);
  for (let offset = 0; offset < first.length; offset += 4096)
    expect(first.subarray(offset, offset + 4096).some((byte) => byte !== 0)).toBe(true);
});

describe("fio's JSON", () => {
  const job = { error: 0, read: { iops: 10, bw_bytes: 40960 }, write: { iops: 5, bw_bytes: 20480 } };
  const document = `note: both iodepth >= 1\n${JSON.stringify({ jobs: [job] })}\n`;

  test("is read from between its notes", () => {
    expect(figuresOf(document, "randread")).toEqual({ iops: 10, bandwidth: 40960 });
    expect(figuresOf(document, "randwrite")).toEqual({ iops: 5, bandwidth: 20480 });
  });

  test("a failed job is no figure", () => {
    expect(() => figuresOf(JSON.stringify({ jobs: [{ ...job, error: 5 }] }), "read")).toThrow("error 5");
  });
});

describe.skipIf(!havePeer("fio", ...NBD_PEERS))("NBD peers", () => {
  test.each(NBD_PEERS)("%s serves a file to fio and goes away", async (name) => {
    const dir = tempDir();
    const file = join(dir, "data.dsk");
    writeDataFile(file, 2 ** 20);
    const server = await startNbdPeer(name, file, dir);
    try {
      expect(
        fioNbd(server.uri, { rw: "randread", blockSize: 4096, depth: 4 }, { seconds: 1, dir }).iops,
      ).toBeGreaterThan(0);
    } finally {
      await server.stop();
    }
    const left = spawnSync("pgrep", ["-f", dir], { encoding: "utf8" }).stdout;
    expect(left).toBe("");
  });

  test("a file that is not there is an error with the peer's reason", async () => {
    const dir = tempDir();
    await expect(startNbdPeer("nbdkit", join(dir, "none"), dir)).rejects.toThrow(/ended with 1: .*none/s);
  });
});

test("an unknown name is wrong usage", () => {
  const run = spawnSync(process.execPath, ["bench/run.js", "nothing"], {
    encoding: "utf8",
    cwd: new URL("..", import.meta.url),
  });
  expect(run.status).toBe(2);
  expect(run.stderr).toMatch(/there is no 'nothing'; known: .*startup/);
});
