import { bootstrapApplication } from '@angular/platform-browser';
import { provideRouter, withInMemoryScrolling } from '@angular/router';
import { Shell } from './app/shell';
import { routes } from './app/routes';

bootstrapApplication(Shell, {
  providers: [provideRouter(routes, withInMemoryScrolling({ scrollPositionRestoration: 'top' }))],
}).catch((error: unknown) => console.error(error));
