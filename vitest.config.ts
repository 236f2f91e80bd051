import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// Tests import `#src/…`, which is the built `dist/`: what is tested is what ships, workers included.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/**/*.long.test.ts"],
    // Daemons of tests that run as root leave /dev alone; test/interop/kernel-*.test.ts ask for what they need.
    env: { XVD_KERNEL: "never" },
    setupFiles: ["test/support/expect-node.ts"],
    server: { deps: { external: [/\/dist\//] } },
    // Many tests wait for processes; the default leaves one of two cores idle.
    maxWorkers: Math.max(3, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", ["json", { outputFile: process.env.XVD_TEST_REPORT ?? "test-report.json" }]],
  },
});
