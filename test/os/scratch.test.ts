/** Scratch files and the programs that work on them: nothing of either is left, also after a SIGKILL. */
import { closeSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openNamelessIn } from "#src/os/nameless.js";
import { runProgram } from "#src/os/programs.js";
import { withScratchFile } from "#src/os/scratch.js";
import { built, startNode } from "../support/child.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;

describe.each([
  ["where files can be nameless", true],
  ["elsewhere", false],
])("a scratch file %s", (_where, nameless) => {
  test("has its size, is nobody else's, is shared with a program, and goes away", async () => {
    const folder = tempDir();
    await withScratchFile(
      folder,
      MIB,
      async ({ path, programPath, files }) => {
        const { size, mode } = statSync(path);
        expect([size, mode & 0o777]).toEqual([MIB, 0o600]);
        await runProgram("sh", ["-c", 'printf hello | dd of="$1" conv=notrunc 2>&1', "sh", programPath], { files });
        expect(readFileSync(path).subarray(0, 6).toString()).toBe("hello\0");
      },
      { nameless },
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test("goes away after a failure, which is told as it is", async () => {
    const folder = tempDir();
    const failing = withScratchFile(folder, MIB, () => Promise.reject(new Error("no luck")), { nameless });
    await expect(failing).rejects.toThrow(`Cannot use a scratch file in "${folder}": no luck`);
    await expect(withScratchFile(folder, 2 ** 53 - 4096, async () => {}, { nameless })).rejects.toMatchObject({
      code: "NO_SPACE",
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  test("of a process that was killed is not there any more, or is removed by the next one", async () => {
    const folder = tempDir();
    mkdirSync(join(folder, `.xvd-scratch-${hostname()}-${process.pid}-abcdef`)); // of a process that lives
    mkdirSync(join(folder, ".xvd-scratch-another.host.example-999999999-abcdef"));
    const others = readdirSync(folder);
    const child = startNode(`
      import { withScratchFile } from ${built("os/scratch.js")};
      await withScratchFile(${JSON.stringify(folder)}, 1000, async () => {
        console.log("in it");
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      }, { nameless: ${nameless} });`);
    expect(await child.line()).toBe("in it");
    await child.end("SIGKILL");
    if (nameless && canBeNameless()) expect(readdirSync(folder)).toEqual(others);
    else expect(readdirSync(folder)).toHaveLength(others.length + 1);
    await withScratchFile(folder, 1000, async () => {}, { nameless });
    expect(readdirSync(folder)).toEqual(others);
  });
});

describe.skipIf(!havePeer("setpriv"))("a program that dies with us", () => {
  test("is ended when its starter is killed", async () => {
    const child = startNode(`
      import { runProgram } from ${built("os/programs.js")};
      import { readFileSync, readdirSync } from "node:fs";
      const running = runProgram("sleep", ["1000"], { diesWithUs: true });
      for (;;) {
        const [pid] = readFileSync("/proc/self/task/" + process.pid + "/children", "utf8").split(" ").filter(Boolean);
        if (pid && readFileSync("/proc/" + pid + "/comm", "utf8").startsWith("sleep")) { console.log(pid); break; }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await running;`);
    const pid = await child.line();
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    await child.end("SIGKILL");
    await expect.poll(() => running(pid), { timeout: 20_000 }).toBe(false);
  });

  test("gives the exit code and the words of the program itself", async () => {
    await expect(
      runProgram("sh", ["-c", "echo out; echo why >&2; exit 7"], { diesWithUs: true }),
    ).rejects.toMatchObject({ code: "IO", message: "Cannot run sh: it ended with exit code 7: why" });
  });
});

function canBeNameless(): boolean {
  const fd = openNamelessIn(tempDir(), 0o600);
  if (fd !== null) closeSync(fd);
  return fd !== null;
}

/** A killed process that nobody has waited for yet is no running one. */
function running(pid: string): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
