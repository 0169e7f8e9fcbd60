import type { Routes } from '@angular/router';
import { DocumentsPage } from './pages/documents';
import { LearnPage } from './pages/learn';
import { OverviewPage } from './pages/overview';

export const routes: Routes = [
  { path: '', component: OverviewPage, pathMatch: 'full' },
  { path: 'documents', component: DocumentsPage },
  { path: 'learn', component: LearnPage },
  { path: '**', redirectTo: '' },
];
