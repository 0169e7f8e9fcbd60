import { bootstrapApplication } from '@angular/platform-browser';
import { provideRouter, withInMemoryScrolling, withRouterConfig } from '@angular/router';
import { Shell } from './app/shell';
import { routes } from './app/routes';

bootstrapApplication(Shell, {
  providers: [
    provideRouter(
      routes,
      withInMemoryScrolling({ scrollPositionRestoration: 'top' }),
      // A step back that is refused leaves the browser's history as it was.
      withRouterConfig({ canceledNavigationResolution: 'computed' }),
    ),
  ],
}).catch((error: unknown) => console.error(error));
