/** What CI reports is what the test reports say. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { tempDir } from "./support/temp-dir.js";

const TOTALS = fileURLToPath(new URL("../.ci/totals.js", import.meta.url));

const file = (name: string, ...statuses: string[]) => ({
  name: `/somewhere/${name}`,
  status: statuses.includes("failed") ? "failed" : "passed",
  message: "",
  assertionResults: statuses.map((status, index) => ({ status, fullName: `${name} ${index}` })),
});

/** The script's lines and exit code, for reports with these files. */
function totals(...reports: (object[] | string)[]) {
  const dir = tempDir();
  const paths = reports.map((files, index) => {
    const path = join(dir, `report-${index}.json`);
    if (Array.isArray(files)) writeFileSync(path, JSON.stringify({ testResults: files }));
    else if (files !== "missing") writeFileSync(path, files);
    return path;
  });
  const { stdout, status } = spawnSync(process.execPath, [TOTALS, ...paths], { encoding: "utf8" });
  return { lines: stdout.trimEnd().split("\n"), status };
}

describe("totals of test reports", () => {
  test("are summed over reports, and the last line stands alone", () => {
    const { lines, status } = totals(
      [file("a", "passed", "passed"), file("b", "pending")],
      [file("c", "passed", "todo")],
    );
    expect(lines.at(-1)).toBe("3 passed, 0 failed, 2 skipped");
    expect(lines.filter((line) => line.startsWith("skipped"))).toHaveLength(2);
    expect(status).toBe(0);
  });

  test("a failed test is named and fails the run", () => {
    const { lines, status } = totals([file("a", "passed", "failed")]);
    expect(lines[0]).toMatch(/^failed .*a 1$/);
    expect(lines.at(-1)).toBe("1 passed, 1 failed, 0 skipped");
    expect(status).toBe(1);
  });

  test("a file that could not be loaded counts as one failure", () => {
    const broken = { ...file("a"), status: "failed", message: "Error: no such module\n  at x" };
    const { lines, status } = totals([broken, file("b", "passed")]);
    expect(lines[0]).toMatch(/Error: no such module$/);
    expect(lines.at(-1)).toBe("1 passed, 1 failed, 0 skipped");
    expect(status).toBe(1);
  });

  test.each(["missing", "{ cut of"])("a report that is %s fails the run", (report) => {
    const { lines, status } = totals([file("a", "passed")], report);
    expect(lines.at(-1)).toBe("1 passed, 0 failed, 0 skipped");
    expect(status).toBe(1);
  });

  test("no test at all is no success", () => {
    expect(totals([]).status).toBe(1);
  });
});
