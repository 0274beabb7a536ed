/** One HTML file with tables and charts. What draws it is loaded when it is asked for: no other format waits for a chart library. */
import type { Reporter } from './reporter.ts';

export const htmlReporter: Reporter = {
  name: 'html',
  description: 'one self-contained page with sortable results and charts, for the browser and for paper',
  fileExtension: 'html',
  async render(input) {
    const { renderPage } = await import('./html/page.ts');
    return renderPage(input);
  },
};
