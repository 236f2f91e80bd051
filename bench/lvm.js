// The volume manager: reports and changes of a group with thousands of volumes beside LVM2's, and volumes beside the bare file.
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lvm2In } from "./lib/lvm2.js";
import { median } from "./lib/median.js";
import { runProgram, timeInTurns } from "./lib/timing.js";

export const name = "lvm";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const VOLUMES = 2000;
const DEPTH = 32;
const BLOCK = 4096;
const READS = 40_000;

export async function run(context) {
  return [...groupRows(context), ...(await volumeRows(context)), ...snapshotRows(context)];
}

function sparse(path, size) {
  writeFileSync(path, "");
  truncateSync(path, size);
  return path;
}

/** A group of many volumes, written once from a text: making them one by one would take minutes. */
function bigGroup({ node, xvd, env, dir }) {
  const disk = sparse(join(dir, "big.dsk"), 16 * GIB);
  const run = (...args) => runProgram([node, xvd, ...args], { env });
  run("vgcreate", "--metadatasize", "4m", "big", disk);
  run("lvcreate", "-l", "1", "-n", "lv0", "big");
  const file = join(dir, "big.vg");
  run("vgcfgbackup", "-f", file, "big");
  const text = runProgram(["cat", file], { stdio: ["ignore", "pipe", "pipe"] }).stdout;
  const [, first] = /\n(\t\tlv0 \{\n[\s\S]*?\n\t\t\})\n/.exec(text);
  const volume = (i) =>
    first
      .replace("lv0 {", `lv${i} {`)
      .replace(/id = "(.{32}).{6}"/, (_, head) => `id = "${head}${String(i).padStart(6, "0")}"`)
      .replace(/"pv0", 0/, `"pv0", ${i}`);
  writeFileSync(file, text.replace(first, Array.from({ length: VOLUMES }, (_, i) => volume(i)).join("\n\n")));
  run("vgcfgrestore", "-f", file, "big");
  return disk;
}

function groupRows(context) {
  const { node, xvd, rounds, dir, say } = context;
  if (!context.have("lvm", "losetup") || process.getuid() !== 0) {
    say("no LVM2, or no root for its loop devices: not compared");
    return [];
  }
  const disk = bigGroup(context);
  const lvm2 = lvm2In(join(dir, "lvm2"), context.env);
  lvm2.attachCopy(disk);
  const options = { env: lvm2.env, rounds, batch: 4 };
  const rows = (what, ours, peer, target) => {
    say(`${what} in a group of ${VOLUMES} volumes`);
    const ms = timeInTurns({ ours: { argv: [node, xvd, ...ours] }, peer: { argv: peer } }, options);
    const common = { unit: "ms", better: "lower", target };
    return { name: `${what}, ${VOLUMES} volumes`, ours: ms.ours, peer: ms.peer, peerName: `LVM2 ${what}`, ...common };
  };
  try {
    return [
      rows("lvs", ["lvs", "big"], ["lvs", "big"], 1),
      rows(
        "lvcreate",
        ["lvcreate", "-Zn", "-Wn", "-l1", "big"],
        ["lvcreate", "-y", "-an", "-Zn", "-Wn", "-l1", "big"],
        1.5,
      ),
    ];
  } finally {
    lvm2.detach();
  }
}

/** Random reads of a volume in this process, in turns with the file beneath it. */
async function volumeRows({ node, xvd, env, dir, rounds, say }) {
  const { openDiskStack } = await import("../dist/stack/disk.js");
  const { fileDevice } = await import("../dist/block/file.js");
  const { openFile } = await import("../dist/os/file.js");
  const disk = sparse(join(dir, "volume.dsk"), 512 * MIB);
  const command = (...args) => runProgram([node, xvd, ...args], { env });
  command("vgcreate", "vol", disk);
  command("lvcreate", "-L", "256M", "-n", "linear", "vol");
  command("io", "lvm:vol/linear", "-c", "write -P 7 0 256M");
  const options = { paths: { home: env.XVD_HOME, run: env.XVD_RUN } };
  const volume = (await openDiskStack("lvm:vol/linear", options)).device;
  const bare = fileDevice(await openFile(disk, {}));
  const samples = { ours: [], peer: [] };
  try {
    say("random reads of a linear volume and of the bare file");
    for (let round = -1; round < rounds; round++)
      for (const [key, device] of [
        ["ours", volume],
        ["peer", bare],
      ]) {
        const iops = await randomReads(device, 256 * MIB);
        if (round >= 0) samples[key].push(iops); // the first one compiles
      }
  } finally {
    await volume.close();
    await bare.close();
  }
  return [
    {
      name: "linear volume, 4 KiB random read, depth 32",
      ours: median(samples.ours),
      peer: median(samples.peer),
      peerName: "the bare file",
      unit: "IOPS",
      better: "higher",
      target: 0.95,
    },
  ];
}

async function randomReads(device, size) {
  let left = READS;
  let state = 1;
  const worker = async () => {
    const into = new Uint8Array(BLOCK);
    while (left-- > 0) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      await device.read((state % (size / BLOCK)) * BLOCK, into);
    }
  };
  const begin = process.hrtime.bigint();
  await Promise.all(Array.from({ length: DEPTH }, worker));
  return READS / (Number(process.hrtime.bigint() - begin) / 1e9);
}

/** What a snapshot of a huge volume takes beyond starting the command. */
function snapshotRows({ node, xvd, env, dir, rounds, say }) {
  const run = (...args) => runProgram([node, xvd, ...args], { env, allowFailure: true }).status === 0;
  const disk = sparse(join(dir, "huge.dsk"), 2 * 1024 * GIB);
  run("vgcreate", "huge", disk);
  const kinds = [
    ["snapshot", ["lvcreate", "-L", "1T", "-n", "thick", "huge"], ["lvcreate", "-s", "-L", "64M", "huge/thick"]],
    [
      "thin snapshot",
      ["lvcreate", "--type", "thin", "-L", "100G", "-V", "1T", "--thinpool", "pool", "-n", "thin", "huge"],
      ["lvcreate", "-s", "huge/thin"],
    ],
  ];
  return kinds.flatMap(([what, make, snapshot]) => {
    if (!run(...make) || !run(...snapshot)) {
      say(`a ${what} cannot be made: not measured`);
      return [];
    }
    say(`${what} of a volume of 1 TiB`);
    const ms = timeInTurns(
      { ours: { argv: [node, xvd, ...snapshot] }, peer: { argv: [node, xvd, "--version"] } },
      { env, rounds },
    );
    const beyond = Math.max(0, ms.ours - ms.peer);
    const common = { unit: "ms", better: "lower", peer: null, peerName: "" };
    return [{ name: `${what} of 1 TiB, beyond xvd --version`, ours: beyond, target: 50, ...common }];
  });
}
