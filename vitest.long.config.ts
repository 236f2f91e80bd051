import { defineConfig } from "vitest/config";
import base from "./vitest.config.js";

export default defineConfig({
  test: {
    ...base.test,
    include: ["test/**/*.long.test.ts"],
    exclude: [],
    passWithNoTests: true,
    testTimeout: 600_000,
    reporters: ["default", ["json", { outputFile: "test-report-long.json" }]],
  },
});
