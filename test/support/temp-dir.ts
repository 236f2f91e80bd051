/** Temporary folders that go away by themselves when the test file that asked for them is done. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const made: string[] = [];

// Registered when a test file imports this module, before its own hooks: runs after all of them, daemons have stopped by then.
afterAll(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true, maxRetries: 3 });
});

/** An empty folder. Its path is short enough for unix sockets some levels below it. */
export function tempDir(): string {
  const path = mkdtempSync(join(tmpdir(), "xvd-"));
  made.push(path);
  return path;
}
