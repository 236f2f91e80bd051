import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findProgram, requireProgram, runProgram } from "#src/os/programs.js";
import { tempDir } from "../support/temp-dir.js";

describe("programs", () => {
  test("are found in PATH's order, only when they can be run", () => {
    const [first, second] = [tempDir(), tempDir()];
    writeFileSync(join(first, "tool"), "");
    mkdirSync(join(first, "folder"));
    writeFileSync(join(second, "tool"), "#!/bin/sh\n");
    chmodSync(join(second, "tool"), 0o755);
    expect(findProgram("tool", `${first}:${second}`)).toBe(join(second, "tool"));
    expect(findProgram("folder", first)).toBeNull();
    expect(findProgram("sh")).toMatch(/\/sh$/);
  });

  test("a missing one names its Debian package", () => {
    expect(findProgram("no-such-program")).toBeNull();
    expect(() => requireProgram("no-such-program")).toThrow("Cannot run no-such-program: it is not installed");
    if (findProgram("mkfs.btrfs")) return;
    expect(() => requireProgram("mkfs.btrfs")).toThrow("it is in Debian's package btrfs-progs");
  });

  test("give their output, take input, arguments are no shell's", async () => {
    const { code, stdout, stderr } = await runProgram("sh", ["-c", 'cat; printf %s "$1" >&2', "sh", "$(id) *"], {
      input: "in",
    });
    expect([code, stdout.toString(), stderr]).toEqual([0, "in", "$(id) *"]);
  });

  test("a failing one is an error with its last words, unless its code is allowed", async () => {
    const args = ["-c", "echo first >&2; echo last words >&2; exit 3"];
    await expect(runProgram("sh", args)).rejects.toMatchObject({
      code: "IO",
      message: "Cannot run sh: it ended with exit code 3: last words",
      details: { program: "sh", code: 3 },
    });
    expect((await runProgram("sh", args, { allowed: [0, 3] })).code).toBe(3);
  });

  test("one that does not read its input, or is killed, does not hang", async () => {
    await runProgram("true", [], { input: new Uint8Array(1 << 20) });
    await expect(runProgram("sh", ["-c", "kill -9 $$"])).rejects.toThrow("it was ended by SIGKILL");
    await expect(runProgram("sh", ["-c", "yes"], { maxOutput: 100_000 })).rejects.toThrow("it printed too much");
    await expect(runProgram("sleep", ["60"], { signal: AbortSignal.timeout(50) })).rejects.toThrow();
  });
});
