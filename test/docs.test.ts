/** Pages that are made from the code say what the code says now. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { BEGIN, renderResults, withResults } from "../bench/readme-table.js";
import { errorCodes } from "../docs/generate/errors.js";
import { PAGES, writtenPage } from "../docs/generate.js";
import { importsOf } from "./support/source-code.js";

const file = (name: string) => new URL(`../${name}`, import.meta.url);
const text = (name: string) => readFileSync(file(name), "utf8");

test.each(Object.entries(PAGES))("docs/%s is up to date: else run 'npm run docs'", async (name, make) => {
  expect(writtenPage(name)).toBe(await make());
});

test("every code of the union is documented, and a code without a meaning is refused", () => {
  expect(errorCodes().map(({ code }) => code)).toContain("CORRUPT");
  expect(errorCodes().length).toBeGreaterThanOrEqual(8);
  expect(() => errorCodes('export type ErrorCode = /** Bad. */ | "A" | "B";')).toThrow("B");
});

describe("dependencies", () => {
  const { dependencies, devDependencies } = JSON.parse(text("package.json")) as Record<string, Record<string, string>>;
  const src = new URL("../src/", import.meta.url);
  const imported = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .flatMap((path) => importsOf(readFileSync(new URL(path, src), "utf8")))
    .filter(({ specifier }) => !/^(\.|node:)/.test(specifier))
    .map(({ specifier }) =>
      specifier
        .split("/")
        .slice(0, specifier.startsWith("@") ? 2 : 1)
        .join("/"),
    );

  test("what the source imports is what package.json names, no more and no less", () => {
    expect([...new Set(imported)].sort()).toEqual(Object.keys(dependencies!).sort());
  });

  test("each is explained in docs/dependencies.md", () => {
    const page = text("docs/dependencies.md");
    const named = new Set(page.split(/[\s|,]+/));
    const missing = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !named.has(name));
    expect(missing).toEqual([]);
  });
});

test("a link from one page of the documentation to another leads somewhere", () => {
  const pages = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/dependencies.md",
    "docs/decisions/README.md",
  ];
  const broken = pages
    .filter((page) => existsSync(file(page)))
    .flatMap((page) =>
      [...text(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)]
        .filter(([, target]) => !existsSync(new URL(target!, file(page))))
        .map(([, target]) => `${page}: ${target}`),
    );
  expect(broken).toEqual([]);
});

describe("the README's table of measurements", () => {
  const row = {
    name: "xvd --version",
    ours: 44.2,
    peer: 40,
    peerName: "node -e 0",
    unit: "ms",
    better: "lower",
    target: 1.5,
    ratio: 1.11,
  };
  const results = {
    date: "2026-01-02T03:04:05.000Z",
    machine: { cpu: "A CPU", cores: 2, memoryGiB: 16 },
    kernel: "Linux 6.1",
    versions: { node: "20.0.0", fio: "3.33" },
    modules: { startup: { date: "2026-01-02T03:04:05.000Z", seconds: 1, rows: [row] } },
  };

  test("says the figures, their ratio and what they were measured on", () => {
    expect(renderResults(results)).toContain(
      "| xvd --version | 44.2 ms | 40 ms | node -e 0 | 1.11x | at most 1.5x | yes |",
    );
    expect(renderResults(results)).toMatch(
      /2 cores \(A CPU\), 16 GiB, Linux 6\.1, Node 20\.0\.0, with fio 3\.33, on 2026-01-02/,
    );
  });

  test("replaces only what lies between the markers", () => {
    const readme = `# A\n\n${BEGIN}\nold\n<!-- bench:end -->\n\n## B\n`;
    const once = withResults(readme, results);
    expect(once).toMatch(/^# A\n\n/);
    expect(once).toMatch(/\n## B\n$/);
    expect(once).not.toContain("old");
    expect(withResults(once, results)).toBe(once);
    expect(() => withResults("# A\n", results)).toThrow("bench:begin");
  });

  test("is the one of bench/results.json", () => {
    const readme = text("README.md");
    expect(readme).toContain(BEGIN);
    expect(withResults(readme, JSON.parse(text("bench/results.json")))).toBe(readme);
  });
});
