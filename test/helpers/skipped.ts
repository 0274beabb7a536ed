/** A vitest reporter: at the end of a run, what was skipped and why, so that a check that did not happen is seen. */
import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from 'vitest/node';

export default class SkippedReporter implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    // With a filter by name everything else counts as skipped, as it was asked for.
    if (this.vitest?.config.testNamePattern) return;
    for (const line of describeSkipped(modules)) this.vitest?.logger.log(line);
  }
}

/** One line per file and reason; none where everything ran. */
export function describeSkipped(modules: readonly TestModule[]): string[] {
  const counts = new Map<string, number>();
  for (const module of modules) {
    for (const test of module.children.allTests('skipped')) {
      const key = `${module.relativeModuleId}: ${reasonOf(test)}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  if (counts.size === 0) return [];
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  return ['', `SKIPPED  ${total} tests did not run here:`, ...[...counts].map(([key, count]) => `${String(count).padStart(7)}  ${key}`)];
}

/** The title of the group that is skipped as a whole says why; else the test's own title, or what it gave as its reason. */
function reasonOf(test: TestCase): string {
  const { note } = test.result() as { readonly note?: string };
  if (note !== undefined) return `${test.fullName}: ${note}`;
  const titles: string[] = [];
  for (let node: TestCase | TestSuite | TestModule = test; node.type !== 'module'; node = node.parent) titles.unshift(node.name);
  return titles.find((title) => /skipped|needs/.test(title)) ?? test.fullName;
}
