/** What other tests rely on: a helper that is wrong would let them pass. */
import { existsSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { havePeer, peerPath } from "./support/peers.js";
import { tempDir, xvdWorld } from "./support/xvd.js";

describe("havePeer", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  test("finds programs in PATH and in the system's folders", () => {
    expect(basename(peerPath("sh")!)).toBe("sh");
    expect(peerPath("no-such-program")).toBeUndefined();
    expect(peerPath("bin")).toBeUndefined(); // a folder is no program
    expect(havePeer("sh", "cat")).toBe(true);
  });

  test("says once what is missing", () => {
    vi.stubEnv("XVD_REQUIRE_PEERS", "");
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(havePeer("sh", "no-such-program")).toBe(false);
    expect(havePeer("sh", "no-such-program")).toBe(false);
    expect(said).toHaveBeenCalledTimes(1);
    expect(said.mock.calls[0]![0]).toMatch(/^skipped: no-such-program not found/);
  });

  test("throws where peers are required", () => {
    vi.stubEnv("XVD_REQUIRE_PEERS", "1");
    expect(() => havePeer("no-such-program")).toThrow("no-such-program not found");
    expect(havePeer("sh")).toBe(true);
  });
});

describe("the command under test", () => {
  test("runs in a world of its own", async () => {
    const [one, other] = [xvdWorld(), xvdWorld()];
    expect(one.dir).not.toBe(other.dir);
    expect(one.env.XVD_HOME).toBe(one.path("home"));
    expect(existsSync(one.env.XVD_RUN!)).toBe(false);
    expect(await one.xvd("--version")).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("an exit code that is not 0 is a result of run, an error of xvd", async () => {
    const world = xvdWorld();
    const result = await world.run(["no-such-command"]);
    expect(result).toMatchObject({ code: 2, signal: null, stdout: "" });
    expect(result.stderr).toContain("no-such-command");
    await expect(world.xvd("no-such-command")).rejects.toThrow("xvd no-such-command ended with 2");
  });

  test("temporary folders are empty, apart, and short enough for sockets below them", () => {
    const [a, b] = [tempDir(), tempDir()];
    expect(a).not.toBe(b);
    expect(realpathSync(a).length).toBeLessThan(60);
  });
});
