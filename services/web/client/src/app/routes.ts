import type { Routes } from '@angular/router';
import { OverviewPage } from './pages/overview';

export const routes: Routes = [
  { path: '', component: OverviewPage, pathMatch: 'full' },
  {
    path: 'documents',
    loadComponent: () => import('./pages/documents').then((page) => page.DocumentsPage),
    // Edits in the open document may not be lost by leaving it.
    canDeactivate: [(page: { mayLeave(): boolean }) => page.mayLeave()],
    runGuardsAndResolvers: 'pathParamsOrQueryParamsChange',
  },
  {
    path: 'classify',
    loadComponent: () => import('./pages/classify').then((page) => page.ClassifyPage),
  },
  { path: 'learn', loadComponent: () => import('./pages/learn').then((page) => page.LearnPage) },
  {
    path: 'monitor',
    loadComponent: () => import('./pages/monitor').then((page) => page.MonitorPage),
  },
  { path: '**', redirectTo: '' },
];
